"""Whether pre-training helps with several labels and with numbers, too: the table of docs/results.md.

    python benchmarks/tasks.py --cifar10 CIFAR10_PARQUET_FOLDER --imagenet FOLDER_OF_JPEGS --out FOLDER

Makes two data sets. Several labels: two CIFAR-10 pictures side by side, labelled with the class of each. A number: a
picture of the ImageNet sample, turned by an angle between -45 and 45 degrees, of which a square without empty corners
is kept; test pictures are others than training pictures. Pre-trains a small network on each, without labels, then
measures it and its untrained twin by linear evaluation (on cached features, and trained) and by fine-tuning. A finished
run is not repeated. Half an hour on one core.
"""

import argparse
import io
import json
import math
import subprocess
import sys
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
TURNED = 48  # pixels of a turned picture's side
STEEPEST = 45.0  # degrees
TEST_SHARE = 0.2  # of the pictures that are turned
# Turning is learnt from pictures as they stand: a flip would change the angle.
DATA = {
    "labels": ["--image-size", "32x64", "--patch-size", "8"],
    "angle": ["--image-size", f"{TURNED}", "--patch-size", "8", "--flip", "0", "--crop-scale", "1", "1"],
}
TASK = {"labels": ["--task", "multilabel"], "angle": ["--task", "regression"]}
HEADLINES = {
    "labels": ("mean_average_precision", "chance"),
    "angle": ("r2", "mean_absolute_error", "error_of_the_mean"),
}
TRAINED_LINEAR = ["--optimizer", "adamw", "--base-lr", "4e-3", "--batch-size", "128", "--epochs", "20"]
PROTOCOLS = {
    "linear, cached": ["linear", "cifar10-linear", "--cached"],
    "linear": ["linear", "cifar10-linear", *TRAINED_LINEAR, "--eval-every", "20"],
    "fine-tuning": ["finetune", "cifar10-finetune", "--epochs", "4", "--warmup-epochs", "1", "--eval-every", "4"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, help="its Parquet files")
    parser.add_argument("--imagenet", required=True, help="a folder of some hundred photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="of linear evaluation")
    parser.add_argument("--finetune-seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=5000, help="to train on, of each data set")
    parser.add_argument("--epochs", type=int, default=13, help="of pre-training")
    arguments = parser.parse_args()
    make = {
        "labels": lambda: pairs(arguments.cifar10, arguments.images),
        "angle": lambda: turned(arguments.imagenet, arguments.images),
    }
    table = []
    for name, options in DATA.items():
        data, run = arguments.out / name / "data", arguments.out / name / "pretrained"
        for split, rows in make[name]().items() if not data.exists() else ():
            write(data / f"{split}.parquet", rows)
        common = ["--data", str(data), "--workers", "0", *options]
        openmae("pretrain", "cifar10", *common, "--epochs", str(arguments.epochs), "--out", str(run))
        for protocol, command in PROTOCOLS.items():
            seeds = arguments.finetune_seeds if protocol == "fine-tuning" else arguments.seeds
            found: dict[str, list[dict[str, Any]]] = {"pretrained": [], "untrained": []}
            for seed in range(seeds):
                for encoder, results in found.items():
                    out = arguments.out / name / f"{command[0]}{'-cached' * ('--cached' in command)}-{encoder}-{seed}"
                    flags = [*common, *TASK[name], "--eval-resize", "32" if name == "labels" else f"{TURNED}"]
                    flags += ["--weights", str(run), "--seed", str(seed), "--out", str(out)]
                    flags += ["--untrained"] if encoder == "untrained" else []
                    results.append(openmae(*command, *flags))
            table.append((name, protocol, found))
    print("| data | protocol | figure | pre-trained | untrained | gain |\n|---|---|---|---|---|---|")
    for name, protocol, found in table:
        for figure in HEADLINES[name]:
            ours, theirs = ([result[figure] for result in found[encoder]] for encoder in ("pretrained", "untrained"))
            gain = f"{mean(ours) - mean(theirs):+.3g}"
            print(f"| {name} | {protocol} | {figure} | {spread(ours)} | {spread(theirs)} | {gain} |")


def openmae(*words: str) -> dict[str, Any]:
    """One command's results."""
    print(" ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run([*COMMAND, *words, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def spread(figures: list[float]) -> str:
    deviation = f" ± {stdev(figures):.2g}" if len(figures) > 1 else ""
    return f"{mean(figures):.4g}{deviation}"


def pairs(cifar10: str, images: int) -> dict[str, list[tuple[Image.Image, list[str]]]]:
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


def turned(folder: str, images: int) -> dict[str, list[tuple[Image.Image, float]]]:
    """Every picture turned by several angles."""
    source = open_data(folder).train
    rng = np.random.default_rng(0)
    order = rng.permutation(len(source))
    held_out = round(len(source) * TEST_SHARE)
    made = {}
    for split, pictures, count in (("train", order[held_out:], images), ("test", order[:held_out], TEST)):
        angles = rng.uniform(-STEEPEST, STEEPEST, count)
        made[split] = [
            (turn(source, int(pictures[place % len(pictures)]), angle), float(angle))
            for place, angle in enumerate(angles)
        ]
    return made


def turn(source: Source, index: int, angle: float) -> Image.Image:
    """The central square of a picture, turned anticlockwise by `angle`, without the corners that this leaves empty."""
    with Image.open(io.BytesIO(source.read(index))) as opened:
        picture = opened.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # The inner square of the steepest angle is cut at every angle, so that its size does not give the angle away.
    inner = side / (2 * math.sin(math.radians(45)))
    square = picture.crop((left, top, left + side, top + side)).rotate(angle, Image.Resampling.BICUBIC)
    margin = (side - inner) / 2
    return square.resize((TURNED, TURNED), Image.Resampling.BICUBIC, (margin, margin, side - margin, side - margin))


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
