"""Whether going on from weights beats starting from nothing, in equal time: the table of docs/results.md.

    python benchmarks/adapting.py --cifar10 CIFAR10_PARQUET_FOLDER --out FOLDER [--seeds 0 1 2] [--rows scratch adapted]

Divides CIFAR-10 by class: the first five classes (FOLDER/first) and the last five (FOLDER/second). For each seed, a
network is pre-trained on the first half, and goes on with `adapt` on the second half: as a whole, and as the encoder
alone, beside a fresh decoder. Another one starts from nothing on the second half, with the same number of steps. All
are measured on the second half by kNN and by linear evaluation on cached features, and so are the network of the first
half as it is, and an untrained one. Runs that are finished are not repeated, and those that were stopped continue;
--rows makes some rows of the table first.

With --images N there are only N training images in each half, to try it out, or to see how it is with few images.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

import openmae
from openmae.checkpoints.names import ENCODER, METRICS

SPLITS = ("train", "test")
FIRST_OF_SECOND = 5
"""The first of the ten classes that belongs to the second half."""
ROWS = {
    "untrained": "untrained",
    "pre": "first half, not adapted",
    "scratch": "from nothing",
    "encoder": "adapted, encoder alone",
    "adapted": "adapted",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="its train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="those to make now; all by default")
    parser.add_argument("--epochs", type=int, default=4, help="on the second half")
    parser.add_argument("--first-epochs", type=int, default=13, help="on the first half")
    parser.add_argument("--images", type=int, help="training images of each half; all of them when not given")
    arguments = parser.parse_args()
    halve(arguments.cifar10, arguments.out, arguments.images)
    measured = [
        adapt_and_measure(
            arguments.out, seed, arguments.rows, epochs=arguments.epochs, first_epochs=arguments.first_epochs
        )
        for seed in arguments.seeds
    ]
    print(table(measured))


def halve(cifar10: Path, out: Path, images: int | None) -> None:
    """Write the two halves, each with its train.parquet and test.parquet; those that are there stay."""
    for split in SPLITS:
        whole = pq.read_table(cifar10 / f"{split}.parquet")
        is_second = pc.greater_equal(whole["label"], FIRST_OF_SECOND)
        for name, chosen in (("first", pc.invert(is_second)), ("second", is_second)):
            file = out / name / f"{split}.parquet"
            if file.exists():
                continue
            half = whole.filter(chosen)
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(half[:images] if images and split == "train" else half, file, row_group_size=1000)


def adapt_and_measure(
    out: Path, seed: int, rows: Sequence[str], *, epochs: int, first_epochs: int
) -> dict[str, dict[str, float]]:
    """The trainings and measurements of a seed: the figures of each of these rows."""
    runs = {name: out / f"{name}-{seed}" for name in ROWS}
    runs["untrained"] = first = runs["pre"]
    second = out / "second"
    openmae.pretrain("cifar10", data=out / "first", out=first, seed=seed, epochs=first_epochs)
    starts = {"adapted": first, "encoder": first / ENCODER}
    figures = {}
    for name in rows:
        run = runs[name]
        if name in starts:
            openmae.pretrain("adapt", weights=starts[name], data=second, out=run, seed=seed, epochs=epochs)
        elif name == "scratch":
            openmae.pretrain("cifar10", data=second, out=run, seed=seed, epochs=epochs)
        figures[name] = measure(out, name, run, seed)
        if name not in ("untrained", "pre"):
            figures[name] |= {"minutes": minutes(run)}
    return figures


def measure(out: Path, name: str, run: Path, seed: int) -> dict[str, float]:
    """Top-1 on the second half, in per cent."""
    second, untrained = out / "second", name == "untrained"
    neighbours = once(
        out / f"knn-{name}-{seed}.json",
        lambda: openmae.knn(weights=run, data=second, untrained=untrained, seed=seed),
    )
    probe = openmae.linear(
        "cifar10",
        weights=run,
        data=second,
        out=out / f"linear-{name}-{seed}",
        cached=True,
        untrained=untrained,
        seed=seed,
    )
    return {"kNN": neighbours["top1"], "linear": probe["top1"]}


def once(file: Path, compute: Callable[[], Any]) -> dict[str, Any]:
    """A result that is computed the first time, and then read from its file."""
    if not file.exists():
        file.write_text(json.dumps(compute()))
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def minutes(run: Path) -> float:
    """How long the steps of a run took, from its log."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    trained = [(line["samples"], line["images_per_second"]) for line in lines if "images_per_second" in line]
    seconds, before = 0.0, 0
    for samples, speed in trained:
        seconds += (samples - before) / speed
        before = samples
    return seconds / 60


def table(measured: Sequence[dict[str, dict[str, float]]]) -> str:
    """The rows as Markdown: the mean of the seeds, and the lowest and highest."""
    columns = ("kNN", "linear", "minutes")
    lines = [f"| network | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, title in ROWS.items():
        cells = [
            spread([seed[name][column] for seed in measured if column in seed.get(name, {})]) for column in columns
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(figures: Sequence[float]) -> str:
    """Mean (lowest … highest).

    >>> spread([50.0, 52.0, 51.6]), spread([])
    ('51.2 (50.0 … 52.0)', '')
    """
    return f"{mean(figures):.1f} ({min(figures):.1f} … {max(figures):.1f})" if figures else ""


if __name__ == "__main__":
    main()
