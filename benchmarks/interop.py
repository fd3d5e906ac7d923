"""Weights of other projects in and out, at published size: writes docs/interop.md.

    python -m benchmarks.interop            # the table: an hour of one core at most, 4 GB of memory
    python -m benchmarks.interop --flow     # files that other projects write, through every verb

Each way writes its part of the document and leaves the other as it is.
"""

import argparse
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

import openmae
from openmae.core.decoder import DecoderConfig
from openmae.core.network import Network
from openmae.data.sources import open_data
from openmae.evaluation.onnx.exporting import export_weights
from openmae.weights.foreign_files import writing
from openmae.weights.formats import fair, huggingface, mm
from openmae.weights.formats import timm as timm_layout
from openmae.weights.proving import compare, require_same_tensors
from openmae.weights.reading import layout_of
from openmae.weights.results import OnnxPart, TargetName
from openmae.weights.weights import Weights
from tests.weights.formats.samples import PUBLISHED, random_like, save_as_fair, save_as_mm, shapes_of, stored

DOCUMENT = Path(__file__).parents[1] / "docs" / "interop.md"
LAYOUTS: dict[TargetName, tuple[ModuleType, str, tuple[str, ...]]] = {
    # The module, the key of its container, and the kinds that it has a place for.
    "fair": (fair, "model", ("encoder", "autoencoder", "fine-tuned", "probe")),
    "mmpretrain": (mm, "state_dict", ("encoder", "autoencoder", "fine-tuned", "by class token", "probe")),
    "huggingface": (huggingface, "", ("encoder", "autoencoder", "by class token")),
    "timm": (timm_layout, "", ("encoder", "fine-tuned", "by class token")),
}
ONNX: dict[OnnxPart, str] = {"encoder": "encoder", "classifier": "by class token", "autoencoder": "autoencoder"}
CASES: tuple[tuple[str, str], ...] = (
    *((target, kind) for target, (_, _, kinds) in LAYOUTS.items() for kind in kinds),
    *(("onnx", kind) for kind in ONNX.values()),
)
"""Every format and the kinds of weights that it holds: the rows of the document."""
PLACES: dict[TargetName, str] = {"fair": "a_full.pth", "mmpretrain": "a.pth", "huggingface": "a", "timm": "a"}
CLASSES, PER_CLASS, PRETRAINING_STEPS = 2, 6, 3
HEADER = ("format", "kind", "keys and shapes", "round trip", "largest difference", "difference of the loss", "run by")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A format and kind: the sizes whose keys and shapes come back, and the numbers of one size."""

    target: str
    kind: str
    sizes: tuple[str, ...]
    same: str
    difference: float | None
    loss: float | None
    checked_with: str

    def cells(self) -> tuple[str, ...]:
        numbers = ("" if value is None else f"{value:.1e}" for value in (self.difference, self.loss))
        return (self.target, self.kind, ", ".join(self.sizes), self.same, *numbers, self.checked_with)


def rows(networks: Mapping[str, Network], numbers: str, decoder: DecoderConfig) -> Iterator[Row]:
    """Every row, as it is measured: shapes of all `networks` without memory, numbers of the one called `numbers`."""
    for target, kind in CASES:
        with tempfile.TemporaryDirectory() as folder:
            weights = weights_of(networks[numbers], kind, decoder)
            if target == "onnx":
                yield _onnx_row(weights, kind, Path(folder), numbers)
            else:
                yield _row(target, kind, weights, Path(folder), networks, decoder)  # type: ignore[arg-type]


def weights_of(network: Network, kind: str, decoder: DecoderConfig) -> Weights:
    """Random weights, none of them zero."""
    network = replace(network, decoder=decoder) if kind == "autoencoder" else network
    return Weights(tensors=random_like(shapes_of(network, kind)), network=network, file=Path("random"))


def _row(
    target: TargetName,
    kind: str,
    weights: Weights,
    folder: Path,
    networks: Mapping[str, Network],
    decoder: DecoderConfig,
) -> Row:
    sizes = tuple(name for name, network in networks.items() if _shapes_come_back(target, kind, network, decoder))
    with writing(weights, target, folder / PLACES[target]) as written:
        require_same_tensors(weights, written)  # raises unless every bit is the same
        compared = compare(weights, target, written)
    return Row(
        target=target,
        kind=kind,
        sizes=sizes,
        same="every bit",
        difference=None if compared is None else compared.difference,
        loss=None if compared is None else compared.loss,
        checked_with="" if compared is None else compared.library,
    )


def _shapes_come_back(target: TargetName, kind: str, network: Network, decoder: DecoderConfig) -> bool:
    layout, container, _ = LAYOUTS[target]
    network = replace(network, decoder=decoder) if kind == "autoencoder" else network
    ours = Weights(tensors=shapes_of(network, kind), network=network, file=Path("nowhere_full.pth"))
    config = layout.config_of(ours) if target in ("huggingface", "timm") else {}
    file = stored(layout.tensors_to(ours), container=container, config=config)
    back = layout_of(file).weights_from(file, normalised=True)
    shapes = ({name: tensor.shape for name, tensor in one.tensors.items()} for one in (ours, back))
    return next(shapes) == next(shapes) and back.network.geometry == network.geometry


def _onnx_row(weights: Weights, kind: str, folder: Path, size: str) -> Row:
    part = next(part for part, held in ONNX.items() if held == kind)
    result = export_weights(weights, folder / "a.onnx", part=part, pixels="normalised")
    return Row(
        target="onnx",
        kind=kind,
        sizes=(size,),
        same="not read back",
        difference=result["largest_difference"],
        loss=None,
        checked_with=result["checked_with"],
    )


# The flow


@dataclass(frozen=True, kw_only=True)
class Step:
    """A verb on a file: what came of it, and how long it took."""

    file: str
    verb: str
    outcome: str
    seconds: float

    def cells(self) -> tuple[str, ...]:
        return (self.file, self.verb, self.outcome, f"{self.seconds:.0f} s")


def flow(network: Network, decoder: DecoderConfig, folder: Path) -> Iterator[Step]:
    """Files as other projects write them, each through the verbs."""
    images = write_images(folder / "images")
    for name, (file, target) in foreign_files(network, decoder, folder).items():
        yield from _steps(name, file, target, network, images, folder / name.replace(" ", "-"))


def write_images(folder: Path) -> Path:
    """A few bundled images of two classes."""
    source = open_data("fashion-mnist").train
    for label in range(CLASSES):
        place = folder / f"class {label}"
        place.mkdir(parents=True)
        for index in np.flatnonzero(source.labels == label)[:PER_CLASS]:
            (place / f"{index}.png").write_bytes(source.read(int(index)))
    return folder


def foreign_files(network: Network, decoder: DecoderConfig, folder: Path) -> dict[str, tuple[Path, TargetName]]:
    """ViTMAE by transformers, a ViT by timm, and the containers of fair and OpenMMLab with what they add to it."""
    import transformers

    whole = weights_of(network, "autoencoder", decoder)
    config = transformers.ViTMAEConfig(**huggingface.config_of(whole))
    torch.manual_seed(0)
    transformers.ViTMAEForPreTraining(config).save_pretrained(folder / "hf")
    architecture = network.architecture
    vit = timm.create_model(
        network.backbone,
        img_size=network.image_size,
        patch_size=architecture.patch_size,
        embed_dim=architecture.width,
        depth=architecture.depth,
        num_heads=architecture.heads,
        num_classes=0,
    )
    sizes = {"img_size": list(network.image_size), "patch_size": architecture.patch_size, "depth": architecture.depth}
    sizes |= {"embed_dim": architecture.width, "num_heads": architecture.heads}
    timm.models.save_for_hf(vit, folder / "timm", model_args=sizes)
    save_as_fair(folder / "mae_full.pth", fair.tensors_to(whole), model="mae_vit", batch_size=64, norm_pix_loss=True)
    meta = mm.container_of(whole)["meta"]["cfg"]
    save_as_mm(folder / "epoch_300.pth", mm.tensors_to(whole), cfg=meta)
    if decoder != DecoderConfig() or network.width is not None:  # tensors do not show the heads
        model = {"num_heads": architecture.heads, "decoder_num_heads": decoder.heads}
        (folder / "config.json").write_text(f'{{"model_args": {model}}}'.replace("'", '"'))
    return {
        "ViTMAE of transformers": (folder / "hf", "huggingface"),
        "ViT of timm": (folder / "timm", "timm"),
        "run file of fair": (folder / "mae_full.pth", "fair"),
        "run file of OpenMMLab": (folder / "epoch_300.pth", "mmpretrain"),
    }


def _steps(name: str, file: Path, target: TargetName, network: Network, images: Path, out: Path) -> Iterator[Step]:
    out.mkdir()
    picture = next(images.rglob("*.png"))
    sizes: dict[str, Any] = {
        "backbone": network.backbone,
        "image_size": network.image_size,
        **{key: getattr(network, key) for key in ("patch_size", "width", "depth", "heads")},
    }
    usual: dict[str, Any] = {
        "data": images,
        "epochs": 1,
        "batch_size": PER_CLASS * CLASSES // PRETRAINING_STEPS,
        "workers": 0,
        **sizes,
    }

    def reconstruct() -> str:
        openmae.reconstruct([picture], weights=file, out=out / "picture.png")
        with Image.open(out / "picture.png") as opened:
            return f"a picture of {opened.width}x{opened.height}"

    def embed() -> str:
        result = openmae.embed(weights=file, data=images, out=out / "features.parquet")
        return f"{result['images']} images"

    def linear() -> str:
        result = openmae.linear("vit-b16-1600e-linear", weights=file, out=out / "linear", cached=True, **usual)
        return f"top-1 {result['top1']:.0f} % of {result['test_images']} images"

    def pretrain() -> str:
        result = openmae.pretrain("vit-b16-1600e", weights=file, out=out / "run", warmup_epochs=0, **usual)
        return f"loss {result['loss']:.3f} after {PRETRAINING_STEPS} steps"

    def convert() -> str:
        back = out / ("back" if target in ("huggingface", "timm") else "back_full.pth")
        result = openmae.convert(file, back, to=target)
        shown = "" if result["largest_difference"] is None else f", difference {result['largest_difference']:.1e}"
        return f"{result['tensors']} tensors, every bit the same{shown}"

    verbs: dict[str, Callable[[], str]] = {
        "reconstruct": reconstruct,
        "embed": embed,
        "linear --cached": linear,
        "pretrain --weights": pretrain,
        "convert back": convert,
    }
    if target == "timm":
        del verbs["reconstruct"]  # it has no decoder
    for verb, run in verbs.items():
        began = time.perf_counter()
        outcome = run()
        yield Step(file=name, verb=verb, outcome=outcome, seconds=time.perf_counter() - began)


# The document


def write_part(document: Path, name: str, text: str) -> None:
    """Put `text` between the marks of a part."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    assert pattern.search(before), f"{document} has no part {name}"
    document.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", before), encoding="utf-8")


def table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *lines))


def where_and_when() -> str:
    """The date, the machine and the versions."""
    versions = f"torch {torch.__version__}, timm {timm.__version__}"
    return f"Measured on {date.today()}, {platform.machine()} with {os.cpu_count()} cores, {versions}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", action="store_true", help="files of other projects through every verb")
    arguments = parser.parse_args()
    if arguments.flow:
        steps = []
        with tempfile.TemporaryDirectory() as folder:
            for step in flow(PUBLISHED["B"], DecoderConfig(), Path(folder)):
                print(*step.cells(), sep=" | ", flush=True)
                steps.append(step.cells())
        text = table(("file", "verb", "outcome", "time"), steps)
        write_part(DOCUMENT, "flow", f"{where_and_when()}\n\n{text}")
        return
    found = []
    for row in rows(PUBLISHED, "B", DecoderConfig()):
        print(*row.cells(), sep=" | ", flush=True)
        found.append(row.cells())
    write_part(DOCUMENT, "table", f"{where_and_when()}\n\n{table(HEADER, found)}")


if __name__ == "__main__":
    main()
