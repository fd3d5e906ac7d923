"""Whether pre-training helps with several labels and with numbers, too: the table of docs/results.md.

    python benchmarks/tasks.py --cifar10 CIFAR10_PARQUET_FOLDER [--photos FOLDER_OF_JPEGS] --out FOLDER

Makes data sets. Several labels: two CIFAR-10 pictures side by side, labelled with the class of each. A number: a
picture turned by an angle between -45 and 45 degrees, with black corners; one such set of CIFAR-10, and one of the
photographs, where test pictures show other scenes than training pictures. Pre-trains a small network on each, without
labels, then measures it and its untrained twin by linear evaluation (on cached features, and trained) and by
fine-tuning. A finished run is not repeated.
"""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from openmae.data.sources import Source, open_data

COMMAND = [sys.executable, "-m", "openmae.cli"]
TEST = 1000
STEEPEST = 45.0  # degrees
TEST_SHARE = 0.2  # of the pictures that are turned
NUMBERS = ("r2", "mean_absolute_error", "error_of_the_mean")
# A flip would change the angle.
AS_THEY_STAND = ["--flip", "0", "--crop-scale", "1", "1"]
PROTOCOLS = {
    "linear, cached": ["linear", "cifar10-linear", "--cached"],
    "linear": [
        *["linear", "cifar10-linear", "--optimizer", "adamw", "--base-lr", "4e-3", "--batch-size", "128"],
        *["--epochs", "10", "--eval-every", "10"],
    ],
    "fine-tuning": ["finetune", "cifar10-finetune", "--epochs", "4", "--warmup-epochs", "1", "--eval-every", "4"],
}

Rows = dict[str, list[tuple[Image.Image, Any]]]
"""Pictures and their labels, of each split."""


@dataclass(frozen=True, kw_only=True)
class MadeData:
    """A data set that is made here: its task, the short side of its pictures, flags for every stage, and figures."""

    make: Callable[[], Rows]
    task: str
    side: int
    flags: list[str]
    figures: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, help="its Parquet files")
    parser.add_argument("--photos", help="a folder of some hundred photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="of linear evaluation on cached features")
    parser.add_argument("--trained-seeds", type=int, default=1, help="of the protocols that train")
    parser.add_argument("--images", type=int, default=5000, help="to train on, of each data set")
    parser.add_argument("--epochs", type=int, default=13, help="of pre-training")
    parser.add_argument("--only", nargs="+", choices=("labels", "angle", "angle-photos"), help="some of the data sets")
    arguments = parser.parse_args()
    images = arguments.images
    sets = {
        "labels": MadeData(
            make=lambda: pairs(arguments.cifar10, images),
            task="multilabel",
            side=32,
            flags=["--image-size", "32x64", "--patch-size", "8"],
            figures=("mean_average_precision", "chance"),
        ),
        "angle": MadeData(
            make=lambda: turned(arguments.cifar10, images, side=32),
            task="regression",
            side=32,
            flags=["--image-size", "32", *AS_THEY_STAND],
            figures=NUMBERS,
        ),
        "angle-photos": MadeData(
            make=lambda: turned(arguments.photos, images, side=48),
            task="regression",
            side=48,
            flags=["--image-size", "48", "--patch-size", "8", *AS_THEY_STAND],
            figures=NUMBERS,
        ),
    }
    if arguments.photos is None:
        del sets["angle-photos"]
    print("| data | protocol | figure | pre-trained | untrained | gain |\n|---|---|---|---|---|---|", flush=True)
    for name, made in sets.items():
        if arguments.only and name not in arguments.only:
            continue
        measure(name, made, arguments.out / name, arguments.epochs, (arguments.seeds, arguments.trained_seeds))


def measure(name: str, made: MadeData, folder: Path, epochs: int, seeds: tuple[int, int]) -> None:
    """Pre-train on one data set, measure on it, and print its lines of the table."""
    data, run = folder / "data", folder / "pretrained"
    if not data.exists():
        for split, rows in made.make().items():
            write(data / f"{split}.parquet", rows)
    common = ["--data", str(data), "--workers", "0", *made.flags]
    openmae("pretrain", "cifar10", *common, "--epochs", str(epochs), "--out", str(run))
    for protocol, command in PROTOCOLS.items():
        found: dict[str, list[dict[str, Any]]] = {"pretrained": [], "untrained": []}
        for seed in range(seeds["--cached" not in command]):
            for encoder, results in found.items():
                out = folder / f"{protocol.replace(', ', '-')}-{encoder}-{seed}"
                flags = [*common, "--task", made.task, "--eval-resize", str(made.side), "--weights", str(run)]
                flags += ["--seed", str(seed), "--out", str(out), *(["--untrained"] * (encoder == "untrained"))]
                results.append(openmae(*command, *flags))
        for figure in made.figures:
            ours, theirs = ([result[figure] for result in found[encoder]] for encoder in ("pretrained", "untrained"))
            gain = f"{mean(ours) - mean(theirs):+.3g}"
            print(f"| {name} | {protocol} | {figure} | {spread(ours)} | {spread(theirs)} | {gain} |", flush=True)


def openmae(*words: str) -> dict[str, Any]:
    """One command's results."""
    print(" ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run([*COMMAND, *words, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def spread(figures: list[float]) -> str:
    deviation = f" ± {stdev(figures):.2g}" if len(figures) > 1 else ""
    return f"{mean(figures):.4g}{deviation}"


def pairs(cifar10: str, images: int) -> Rows:
    """Two pictures side by side and the names of their classes, one name where they are of one class."""
    data = open_data(cifar10)
    assert data.test is not None
    made = {}
    for split, source, count in (("train", data.train, images), ("test", data.test, TEST)):
        chosen = np.random.default_rng(0).choice(len(source), (count, 2))
        made[split] = [
            (side_by_side(source, *two), sorted({source.classes[source.labels[i]] for i in two})) for two in chosen
        ]
    return made


def side_by_side(source: Source, left: int, right: int) -> Image.Image:
    pair = Image.new("RGB", (64, 32))
    for place, index in ((0, left), (32, right)):
        with Image.open(io.BytesIO(source.read(int(index)))) as picture:
            pair.paste(picture.convert("RGB").resize((32, 32)), (place, 0))
    return pair


def turned(folder: str, images: int, *, side: int) -> Rows:
    """Pictures of the training split turned by random angles, each of them several times where there are too few."""
    source = open_data(folder).train
    rng = np.random.default_rng(0)
    order = rng.permutation(len(source))
    held_out = round(len(source) * TEST_SHARE)
    made = {}
    for split, pictures, count in (("train", order[held_out:], images), ("test", order[:held_out], TEST)):
        angles = rng.uniform(-STEEPEST, STEEPEST, count)
        made[split] = [
            (turn(source, int(pictures[place % len(pictures)]), angle, side), float(angle))
            for place, angle in enumerate(angles)
        ]
    return made


def turn(source: Source, index: int, angle: float, size: int) -> Image.Image:
    """The central square of a picture, turned anticlockwise by `angle` degrees; corners that this leaves are black."""
    with Image.open(io.BytesIO(source.read(index))) as opened:
        picture = opened.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square.rotate(angle, Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)


def write(file: Path, rows: list[tuple[Image.Image, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for picture, _ in rows:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": images, "label": [label for _, label in rows]}), file)


if __name__ == "__main__":
    main()
