"""The model card, README.md, of a folder for the Hugging Face hub: what it is, what it has seen, and how to load it.

It has no path, no file name and no user name of the machine that it was written on.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from openmae.checkpoints.names import DATA, RESULTS
from openmae.core.geometry import size_text
from openmae.recipes import Recipe
from openmae.recipes.saved import to_dict
from openmae.weights.lineage import origin_of, run_of
from openmae.weights.weights import Weights

FIELDS = (
    *("stage", "name", "backbone", "image_size", "patch_size", "channels", "width", "depth", "heads", "mask_ratio"),
    *("normalise_target", "decoder_width", "decoder_depth", "decoder_heads", "task", "pool", "epochs", "batch_size"),
    *("optimizer", "base_lr", "weight_decay", "warmup_epochs", "layer_decay", "drop_path", "precision", "seed"),
)
"""Of a recipe: those that say how the weights were trained, and none that names a place."""
FIGURES = {
    "top1": "top-1 accuracy, %",
    "top5": "top-5 accuracy, %",
    "mean_class_accuracy": "mean accuracy of the classes, %",
    "mean_average_precision": "mean average precision, %",
    "r2": "R²",
    "mean_absolute_error": "mean absolute error",
    "loss": "training loss",
    "train_images": "training images",
    "test_images": "test images",
    "epoch": "epochs",
}
SHOWN_CLASSES = 20


def model_card(source: str | Path, weights: Weights, target: Literal["huggingface", "timm"], name: str) -> str:
    """The text of README.md.

    Args:
        source: what `--weights` was given; the files of its run folder are read where there is one.
        weights: what is written.
        target: whose library loads it.
        name: owner/name on the hub, or the name of the folder.
    """
    origin = origin_of(source, weights.recipe)
    run = run_of(source)
    sections = [
        _front_matter(weights, target, origin.licence),
        f"# {_plain(name)}",
        _description(weights),
        "## Use",
        _use(weights, target, name),
        "## Training",
        _training(weights.recipe),
        _data(run),
        _figures(run),
        "## Licence",
        origin.words,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(weights: Weights, target: str, licence: str) -> str:
    task = "image-classification" if weights.has_head else "image-feature-extraction"
    lines = [
        f"library_name: {'timm' if target == 'timm' else 'transformers'}",
        f"pipeline_tag: {task}",
        *([f"license: {licence}"] if licence else []),
        "tags:",
        "- masked-autoencoder",
        "- vision-transformer",
        "- openmae",
    ]
    return "\n".join(["---", *lines, "---"])


def _description(weights: Weights) -> str:
    network = weights.network
    parts = ["A masked autoencoder, encoder and decoder" if weights.has_decoder else "A Vision Transformer"]
    parts.append(f"`{network.backbone}` for {network.channels} channels of {size_text(network.image_size)} pixels")
    text = f"{', '.join(parts)}. Written by OpenMAE; the digest of its tensors is `{weights.digest[:16]}`."
    if weights.has_head and weights.classes:
        shown = ", ".join(map(_plain, weights.classes[:SHOWN_CLASSES]))
        more = f" and {len(weights.classes) - SHOWN_CLASSES} more" if len(weights.classes) > SHOWN_CLASSES else ""
        text += f" Its {len(weights.classes)} classes: {shown}{more}."
    return text


def _use(weights: Weights, target: str, name: str) -> str:
    if target == "timm":
        lines = [
            "import timm",
            "",
            f'model = timm.create_model("hf-hub:{name}", pretrained=True).eval()',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        ]
    else:
        kind = "ViTMAEForPreTraining" if weights.has_decoder else "ViTModel"
        kind = "ViTForImageClassification" if weights.has_head else kind
        lines = [
            f"from transformers import AutoImageProcessor, {kind}",
            "",
            f'processor = AutoImageProcessor.from_pretrained("{name}")',
            f'model = {kind}.from_pretrained("{name}")',
        ]
    return "\n".join(["```python", *lines, "```"]) + f"\n\nOr `openmae embed --weights hf://{name}`."


def _training(recipe: Recipe | None) -> str:
    if recipe is None:
        return "Converted from a file of another project, which does not say how it was trained."
    values = to_dict(recipe)
    rows = [f"| {field} | {_plain(values[field])} |" for field in FIELDS if values.get(field) is not None]
    return "\n".join(["| | |", "|---|---|", *rows])


def _data(run: Path | None) -> str:
    """How many images of each split were used, and a hash by which a later training sees whether they are the same."""
    if run is None or not (run / DATA).is_file():
        return ""
    table = pq.read_table(run / DATA)
    counts = Counter(table["split"].to_pylist())
    digest = hashlib.sha256()
    for row in zip(*(table[name].to_pylist() for name in ("split", "name", "size", "label")), strict=True):
        digest.update(json.dumps(row).encode())
    shown = ", ".join(f"{count:,} images of {_plain(split)}" for split, count in counts.items())
    return f"Trained on {shown}. Fingerprint of their names, sizes and labels: `{digest.hexdigest()[:16]}`."


def _figures(run: Path | None) -> str:
    if run is None or not (run / RESULTS).is_file():
        return ""
    try:
        results: Any = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    except ValueError:
        return ""
    found = {words: results.get(key) for key, words in FIGURES.items()}
    rows = [f"| {words} | {value:.6g} |" for words, value in found.items() if type(value) in (int, float)]
    protocol = _plain(results.get("protocol", ""))
    return "\n".join([f"Figures of its {protocol} run:", "", "| | |", "|---|---|", *rows]) if rows else ""


def _plain(value: Any) -> str:
    """Text that a stranger wrote, without the signs of Markdown and HTML."""
    text = " ".join(str(value).split())[:200]
    return "".join(f"\\{sign}" if sign in "`*_[]<>|#\\" else sign for sign in text)
