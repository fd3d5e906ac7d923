"""Sick and healthy runs, really trained: which alarms each of them raises. The table and pictures of docs/curves.md.

    python benchmarks/alarms.py --cifar10 CIFAR10_PARQUET_FOLDER --out FOLDER [--only NAME...]

Seven faults are planted: a rate that is a hundred times too high, constant images, noise, targets that leak, wrong
statistics, a tiny set that is learned by heart, a loader that starves the training. Six runs are as they should be.
Each takes from seconds to two minutes on two cores. A run that is finished is not repeated; its alarms are read.

Exits with 1 when a run does not raise its alarm, or raises another one.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

import openmae
from openmae.checkpoints.names import METRICS
from openmae.reporter import quiet
from openmae.reporting.run_files import read_run
from openmae.training.processes.stopping import Interrupted

TRAINED, HELD_OUT = 2000, 256
SIDE = 32
PATCH = 4

SMALL = {
    "width": 64,
    "depth": 2,
    "heads": 2,
    "decoder_width": 48,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "batch_size": 32,
    "workers": 1,
    "log_every": 10,
}
"""A network that makes a step of 32 images in some 30 ms on one core."""

Pictures = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: what is unusual about it, and the alarms of which it must raise one or more and no other.

    Args:
        title: what it is, for the table.
        expected: kinds of alarms; none of a healthy run.
        images: makes the images in a folder that does not exist yet, of images of CIFAR-10 [N, 32, 32, 3]; CIFAR-10
            itself when None.
        train: trains on that folder, into another one.
    """

    title: str
    expected: tuple[str, ...] = ()
    images: Callable[[Path, Pictures], None] | None = None
    train: Callable[[Path, Path], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="its train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    small = arguments.out / "cifar10-small"
    shorten(arguments.cifar10, small)
    pictures = decoded(small / "train.parquet")
    good = True
    for name in arguments.only:
        case = CASES[name]
        data, run = arguments.out / name / "images", arguments.out / name / "run"
        if case.images is not None and not data.exists():
            case.images(data, pictures)
        began = time.perf_counter()
        with quiet():
            case.train(small if case.images is None else data, run)
        raised = read_run(run).alarms
        kinds = {alarm["kind"] for alarm in raised}
        right = kinds <= set(case.expected) and bool(kinds) == bool(case.expected)
        good = good and right
        print(f"{'right' if right else 'WRONG'}  {name}: {case.title} ({time.perf_counter() - began:.0f} s)")
        for alarm in raised:
            print(f"       step {alarm['step']}, {alarm['kind']}: {alarm['message']}", flush=True)
    sys.exit(0 if good else 1)


def shorten(cifar10: Path, out: Path) -> None:
    """Write the first images of both splits of CIFAR-10."""
    out.mkdir(parents=True, exist_ok=True)
    for split, images in (("train", TRAINED), ("test", HELD_OUT)):
        pq.write_table(pq.read_table(cifar10 / f"{split}.parquet").slice(0, images), out / f"{split}.parquet")


def decoded(parquet: Path) -> Pictures:
    """The images of a Parquet file, [N, 32, 32, 3]."""
    rows = pq.read_table(parquet)["image"].to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows])


def write(folder: Path, images: Iterable[Pictures]) -> None:
    """Write images as numbered PNG files."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(temporary / f"{number:05d}.png")
    temporary.rename(folder)


def constant(out: Path, pictures: Pictures) -> None:
    """Every image is of the mean colour of one of CIFAR-10."""
    colours = pictures[:1000].mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    write(out, np.broadcast_to(colours, (len(colours), SIDE, SIDE, 3)))


def noise(out: Path, pictures: Pictures) -> None:
    """Every number of every pixel is drawn alone."""
    write(out, np.random.default_rng(0).integers(0, 256, pictures[:1000].shape, dtype=np.uint8))


def tiled(out: Path, pictures: Pictures) -> None:
    """Every image repeats one patch, so that each visible patch tells all hidden ones."""
    write(out, np.tile(pictures[:, 12 : 12 + PATCH, 12 : 12 + PATCH], (1, SIDE // PATCH, SIDE // PATCH, 1)))


def tiny(out: Path, pictures: Pictures) -> None:
    """Thirty-two images to train on, and others held out."""
    write(out / "train", pictures[:32])
    write(out / "test", pictures[-HELD_OUT:])


def large(out: Path, pictures: Pictures) -> None:
    """Images of 2.4 megapixels, which take long to decode, for a network of 32 pixels."""
    grain = np.random.default_rng(0).integers(-8, 9, (1536, 1536, 3))
    enlarged = (Image.fromarray(image).resize((1536, 1536), Image.Resampling.BICUBIC) for image in pictures[:64])
    write(out, (np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8) for image in enlarged))


def pretrain(recipe: str, **changes: Any) -> Callable[[Path, Path], None]:
    """Pre-train by a recipe with changes."""

    def run(data: Path, out: Path) -> None:
        openmae.pretrain(recipe, out=out, **{"data": str(data), "seed": 0, **SMALL, **changes})

    return run


def continued(data: Path, out: Path) -> None:
    """Stopped by a signal after its first hundred steps, and continued."""

    def stop() -> None:
        while not (out / METRICS).exists() or len((out / METRICS).read_bytes().splitlines()) < 10:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    train = pretrain("cifar10", epochs=8)
    if not out.exists():
        threading.Thread(target=stop, daemon=True).start()
        with contextlib.suppress(Interrupted):
            train(data, out)
    train(data, out)


def finetune(data: Path, out: Path) -> None:
    """From the encoder of the run "cifar10"."""
    openmae.finetune(
        "cifar10-finetune",
        weights=out.parent.parent / "cifar10" / "run",
        data=str(data),
        out=out,
        epochs=3,
        **{name: SMALL[name] for name in ("width", "depth", "heads", "workers", "log_every")},
    )


CASES: Mapping[str, Case] = {
    "rate": Case(
        title="the rate times 100",
        expected=("stuck", "spike", "gradient"),
        train=pretrain("cifar10", epochs=12, base_lr=1.6),
    ),
    "constant": Case(
        title="constant images",
        expected=("constant",),
        images=constant,
        train=pretrain("cifar10", epochs=10),
    ),
    "noise": Case(title="noise", expected=("stuck",), images=noise, train=pretrain("cifar10", epochs=14)),
    "leak": Case(
        title="targets that leak: repeated patches",
        expected=("leak",),
        images=tiled,
        train=pretrain("cifar10", epochs=16, crop_scale=(1.0, 1.0), flip=0.0),
    ),
    "statistics": Case(
        title="wrong statistics",
        expected=("statistics",),
        train=pretrain("cifar10", epochs=5, mean=(0.9, 0.9, 0.9), std=(0.02, 0.02, 0.02)),
    ),
    "tiny": Case(
        title="a tiny set, learned by heart",
        expected=("overfitting",),
        images=tiny,
        train=pretrain("cifar10", epochs=500, crop_scale=(1.0, 1.0), flip=0.0),
    ),
    "starved": Case(
        title="a starved loader",
        expected=("starved",),
        images=large,
        train=pretrain("cifar10", epochs=15, batch_size=16, hold=False, log_every=1, decode="exact"),
    ),
    "cifar10": Case(title="CIFAR-10", train=pretrain("cifar10", epochs=10)),
    "grey": Case(
        title="Fashion-MNIST: grey, raw pixels", train=pretrain("fashion-mnist", data="fashion-mnist", epochs=1)
    ),
    "bf16": Case(
        title="CIFAR-10 in bf16 with AdamW",
        train=pretrain("cifar10", epochs=6, precision="bf16-mixed", optimizer="adamw", base_lr=8e-3),
    ),
    "raw": Case(title="CIFAR-10, raw pixels", train=pretrain("cifar10", epochs=6, normalise_target=False)),
    "continued": Case(title="CIFAR-10, stopped and continued", train=continued),
    "finetune": Case(title="CIFAR-10, fine-tuned", train=finetune),
}


if __name__ == "__main__":
    main()
