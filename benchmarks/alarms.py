"""Sick and healthy runs, really trained: which alarms each of them raises. The table and pictures of docs/curves.md.

    python benchmarks/alarms.py --cifar10 CIFAR10_PARQUET_FOLDER --out FOLDER [--only NAME...] [--docs docs/curves]

Seven faults are planted: a rate that is a hundred times too high, constant images, noise, targets that leak, wrong
statistics, a tiny set that is learned by heart, a loader that starves the training. Seven runs are as they should be.
Each takes from seconds to two minutes on two cores. A run that is finished is not repeated; its alarms are read.

Exits with 1 when a run does not raise its alarm, or raises another one.
"""

import argparse
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import openmae
from openmae.checkpoints.names import ALARMS, METRICS
from openmae.reporter import quiet
from openmae.training.processes.stopping import Interrupted

TRAINED, HELD_OUT = 4000, 256
SIDE = 32
PATCH = 4

SMALL = {"width": 64, "depth": 2, "heads": 2, "decoder_width": 48, "decoder_depth": 1, "decoder_heads": 2, "workers": 1}
"""A network that makes a step of 64 images in some 40 ms on one core."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: what is unusual about it, and the alarms of which it must raise one or more and no other.

    Args:
        title: what it is, for the table.
        expected: kinds of alarms; none of a healthy run.
        images: makes the images, in a folder that does not exist yet, of those of CIFAR-10.
        train: trains on that folder, into another one.
    """

    title: str
    expected: tuple[str, ...] = ()
    images: Callable[[Path, np.ndarray, np.ndarray], None] = field(default=lambda out, train, test: natural(out, train))
    train: Callable[[Path, Path], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="its train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    train, test = (decoded(arguments.cifar10 / f"{name}.parquet", TRAINED) for name in ("train", "test"))
    good = True
    for name in arguments.only:
        case = CASES[name]
        folder = arguments.out / name
        data, run = folder / "images", folder / "run"
        if not data.exists():
            case.images(data, train, test)
        began = time.perf_counter()
        with quiet():
            case.train(data, run)
        raised = alarms(run)
        kinds = {alarm["kind"] for alarm in raised}
        right = kinds <= set(case.expected) and bool(kinds) == bool(case.expected)
        good = good and right
        print(f"{'right' if right else 'WRONG'}  {name}: {case.title} ({time.perf_counter() - began:.0f} s)")
        for alarm in raised:
            print(f"       step {alarm['step']}, {alarm['kind']}: {alarm['message']}")
    sys.exit(0 if good else 1)


def alarms(run: Path) -> list[dict[str, Any]]:
    """The alarms in a run folder."""
    file = run / ALARMS
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def decoded(parquet: Path, images: int) -> np.ndarray:
    """The first images of a Parquet file, [N, 32, 32, 3]."""
    rows = pq.read_table(parquet).slice(0, images)["image"].to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows])


def write(folder: Path, images: np.ndarray) -> None:
    """Write images as numbered PNG files."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(temporary / f"{number:05d}.png")
    temporary.rename(folder)


def natural(out: Path, train: np.ndarray) -> None:
    """CIFAR-10."""
    write(out, train)


def constant(out: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Every image is of the mean colour of one of CIFAR-10."""
    write(out, np.broadcast_to(train.mean(axis=(1, 2), keepdims=True), train.shape).astype(np.uint8)[:1000])


def noise(out: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Every number of every pixel is drawn alone."""
    write(out, np.random.default_rng(0).integers(0, 256, (1000, SIDE, SIDE, 3), dtype=np.uint8))


def tiled(out: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Every image repeats one patch, so that each visible patch tells all hidden ones."""
    write(out, np.tile(train[:, :PATCH, :PATCH], (1, SIDE // PATCH, SIDE // PATCH, 1)))


def tiny(out: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Thirty-two images to train on, and others held out."""
    write(out / "train", train[:32])
    write(out / "test", test[:HELD_OUT])


def large(out: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Images of 2.4 megapixels, which take long to decode, for a network of 32 pixels."""
    large = [Image.fromarray(image).resize((1536, 1536), Image.Resampling.BICUBIC) for image in train[:64]]
    grain = np.random.default_rng(0).integers(-8, 9, (1536, 1536, 3))
    write(out, np.stack([np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8) for image in large]))


def pretrain(recipe: str, **changes: Any) -> Callable[[Path, Path], None]:
    """Pre-train by a recipe with changes."""

    def run(data: Path, out: Path) -> None:
        openmae.pretrain(recipe, out=out, **{"data": str(data), "seed": 0, **SMALL, **changes})

    return run


def continued(data: Path, out: Path) -> None:
    """Stopped after fifteen seconds by a signal, and continued."""
    train = pretrain("cifar10", epochs=12)
    if not (out / "results.json").exists():
        stop = threading.Timer(15, os.kill, (os.getpid(), signal.SIGTERM))
        stop.start()
        try:
            train(data, out)
        except Interrupted:
            pass
        finally:
            stop.cancel()
    train(data, out)


def finetuned(data: Path, out: Path) -> None:
    """Fine-tuned from an encoder that was pre-trained for a moment."""


CASES: Mapping[str, Case] = {
    "rate": Case(
        title="the rate times 100",
        expected=("stuck", "spike", "gradient"),
        train=pretrain("cifar10", epochs=10, base_lr=1.6),
    ),
    "constant": Case(
        title="constant images",
        expected=("constant",),
        images=constant,
        train=pretrain("cifar10", epochs=20),
    ),
    "noise": Case(title="noise", expected=("stuck",), images=noise, train=pretrain("cifar10", epochs=40)),
    "leak": Case(
        title="targets that leak: each image repeats one patch",
        expected=("leak",),
        images=tiled,
        train=pretrain("cifar10", epochs=20),
    ),
    "statistics": Case(
        title="wrong statistics",
        expected=("statistics",),
        train=pretrain("cifar10", epochs=8, mean=(0.9, 0.9, 0.9), std=(0.02, 0.02, 0.02)),
    ),
    "tiny": Case(
        title="a tiny set that is learned by heart",
        expected=("overfitting",),
        images=tiny,
        train=pretrain("cifar10", epochs=1500, batch_size=32, crop_scale=(1.0, 1.0), flip=0.0),
    ),
    "starved": Case(
        title="a starved loader",
        expected=("starved",),
        images=large,
        train=pretrain("cifar10", epochs=20, batch_size=16, hold=False, log_every=1, decode="exact"),
    ),
    "cifar10": Case(title="CIFAR-10", train=pretrain("cifar10", epochs=10)),
    "grey": Case(
        title="Fashion-MNIST: grey, raw pixels",
        images=lambda out, train, test: None,
        train=pretrain("fashion-mnist", data="fashion-mnist", epochs=1),
    ),
    "bf16": Case(
        title="CIFAR-10 in bf16, AdamW",
        train=pretrain("cifar10", epochs=8, precision="bf16-mixed", optimizer="adamw", base_lr=4e-3),
    ),
    "raw": Case(title="CIFAR-10, raw pixels", train=pretrain("cifar10", epochs=8, normalise_target=False)),
    "continued": Case(title="CIFAR-10, stopped and continued", train=continued),
}


if __name__ == "__main__":
    main()
