"""The demo on the bundled images: pre-train, evaluate in three ways beside an untrained twin, draw, report."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from openmae.data.decoding import PixelFormat, decode
from openmae.data.sources import Source, open_data
from openmae.evaluation.features import extract_features
from openmae.evaluation.heads.logistic import fit_linear
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.knn import knn
from openmae.evaluation.quality.observing import observe_quality
from openmae.evaluation.splits import balanced_subset
from openmae.files import write_text
from openmae.recipes import FinetuneRecipe, PretrainRecipe, find_recipe
from openmae.reporter import current
from openmae.reporting.pictures import reconstruct_sample
from openmae.reporting.report.writing import Wanted, write_report
from openmae.training.pretraining import run_pretraining
from openmae.weights.building import encoder_from, untrained_encoder
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights

RECIPE = "fashion-mnist"
LABEL_FRACTIONS = (0.01, 0.1, 1.0)
FINETUNE_EPOCHS = {0.01: 40, 0.1: 8}
PICTURE_ROWS = 6
ENCODERS = ("pretrained", "untrained")
MEASUREMENTS = "measurements.json"
"""What the demo measured without a run folder, for `openmae report`, which finds it beside the run."""


class Accuracy(TypedDict):
    """Top-1 of one encoder by one protocol."""

    encoder: str
    protocol: str
    label_fraction: float
    top1: float


class PixelAccuracy(TypedDict):
    """Top-1 of kNN on the pixels themselves."""

    protocol: str
    label_fraction: float
    top1: float


class DemoResult(TypedDict):
    """Everything that the demo measured, and the paths of its picture, its run folder and its report."""

    results: list[Accuracy]
    raw_pixels: list[PixelAccuracy]
    images_per_second: float
    seconds: float
    picture: str
    run: str
    report: str


def run_demo(out: Path, *, seed: int = 0) -> DemoResult:
    """Run the demo in the folder `out`, or continue it; returns results, seconds, picture and run."""
    started = time.monotonic()
    recipe = find_recipe(RECIPE, "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    recipe = replace(recipe, seed=seed)
    run = out / "pretrain"
    current().heading("1. Pre-training on 10,000 images without their labels")
    pretraining = run_pretraining(recipe, run, observers=[observe_quality])

    current().heading("2. kNN and linear evaluation of the features")
    assert recipe.data is not None
    data = open_data(recipe.data)
    assert data.test is not None, "the bundled images have a test split"
    results, raw_pixels = _measure_features(run, recipe, data.train, data.test)

    current().heading("3. Fine-tuning with few labels")
    results += _measure_finetuning(run, out, seed=seed)

    picture = reconstruct_sample(run, data.test, out / "reconstructions.png", rows=PICTURE_ROWS, seed=seed)
    current().heading("4. The report")
    write_text(out / MEASUREMENTS, json.dumps(_measurements(run, results, raw_pixels), indent=1))
    report = write_report(Wanted(runs=[str(run)], out=out / "report.html", seed=seed))
    return {
        "results": results,
        "raw_pixels": raw_pixels,
        "images_per_second": pretraining["images_per_second"],
        "seconds": round(time.monotonic() - started, 1),
        "picture": str(picture),
        "run": str(run),
        "report": report["path"],
    }


def demo_table(outcome: DemoResult) -> Table:
    """The demo's results as one table: protocols down, label fractions across, pre-trained beside untrained."""
    table = Table(title="Top-1 on 2,000 test images (%)", title_justify="left")
    table.add_column("protocol")
    table.add_column("labels", justify="right")
    for heading in ("pre-trained", "untrained", "gain", "raw pixels"):
        table.add_column(heading, justify="right")
    top1 = {(r["encoder"], r["protocol"], r["label_fraction"]): r["top1"] for r in outcome["results"]}
    pixels = {r["label_fraction"]: r["top1"] for r in outcome["raw_pixels"]}
    for protocol in ("knn", "linear", "finetune"):
        for fraction in LABEL_FRACTIONS:
            ours, theirs = (top1.get((encoder, protocol, fraction)) for encoder in ENCODERS)
            if ours is None or theirs is None:
                continue
            raw = f"{pixels[fraction]:.1f}" if protocol == "knn" else ""
            name = {"knn": "kNN", "linear": "linear", "finetune": "fine-tuning"}[protocol]
            last = fraction == LABEL_FRACTIONS[-1] or (protocol == "finetune" and fraction == max(FINETUNE_EPOCHS))
            table.add_row(
                name,
                f"{fraction:.0%}",
                f"[bold]{ours:.1f}[/bold]",
                f"{theirs:.1f}",
                f"{ours - theirs:+.1f}",
                raw,
                end_section=last,
            )
    return table


def _measure_features(
    run: Path, recipe: PretrainRecipe, train: Source, test: Source
) -> tuple[list[Accuracy], list[PixelAccuracy]]:
    """kNN and linear evaluation of both encoders, and kNN on the pixels themselves."""
    network = network_of(recipe)
    twins = {"pretrained": encoder_from(read_weights(run)), "untrained": untrained_encoder(network, seed=recipe.seed)}
    classes = len(train.classes)
    subsets = {fraction: balanced_subset(train.labels, fraction, seed=recipe.seed) for fraction in LABEL_FRACTIONS}
    results = []
    for encoder, vit in twins.items():
        bank, queries = (extract_features(vit, network, source) for source in (train, test))
        for fraction, chosen in subsets.items():
            labelled = bank.mean[chosen], train.labels[bank.indices[chosen]], queries.mean, test.labels[queries.indices]
            neighbours = knn(*labelled, classes=classes)
            linear = fit_linear(*labelled, classes=classes, seed=recipe.seed)
            for protocol, scores in (("knn", neighbours), ("linear", linear)):
                results.append(_result(encoder, protocol, fraction, scores.top1))
    bank_pixels, query_pixels = _raw_pixels(train), _raw_pixels(test)
    raw: list[PixelAccuracy] = [
        {
            "protocol": "knn",
            "label_fraction": fraction,
            "top1": knn(bank_pixels[chosen], train.labels[chosen], query_pixels, test.labels, classes=classes).top1,
        }
        for fraction, chosen in subsets.items()
    ]
    return results, raw


def _measure_finetuning(run: Path, out: Path, *, seed: int) -> list[Accuracy]:
    """Fine-tuning with few labels, from pre-trained and from fresh weights, under the same recipe."""
    recipe = find_recipe(RECIPE, "finetune")
    assert isinstance(recipe, FinetuneRecipe)
    results = []
    for fraction, epochs in FINETUNE_EPOCHS.items():
        for encoder in ENCODERS:
            this = replace(
                recipe,
                weights=str(run),
                untrained=encoder == "untrained",
                label_fraction=fraction,
                epochs=epochs,
                eval_every=epochs,
                seed=seed,
            )
            figures = run_finetune(this, out / f"finetune-{fraction:g}-{encoder}")
            results.append(_result(encoder, "finetune", fraction, figures["top1"]))
    return results


def _result(encoder: str, protocol: str, fraction: float, top1: float) -> Accuracy:
    return {"encoder": encoder, "protocol": protocol, "label_fraction": fraction, "top1": top1}


def _measurements(run: Path, results: list[Accuracy], raw_pixels: list[PixelAccuracy]) -> list[dict[str, Any]]:
    """What has no results.json of its own, in the form of one."""
    measured = [one for one in results if one["protocol"] != "finetune"]
    return [{**one, "weights": str(run)} for one in (*measured, *({**one, "encoder": "pixels"} for one in raw_pixels))]


def _raw_pixels(source: Source) -> NDArray[np.float32]:
    """Every image as one vector of its grey levels."""
    rows: Sequence[NDArray[np.uint8]] = [
        decode(source.read(index), PixelFormat(1)).reshape(-1) for index in range(len(source))
    ]
    return np.stack(rows).astype(np.float32)
