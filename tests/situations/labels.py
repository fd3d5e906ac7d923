"""Situations: labels of all kinds."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.situations.making import (
    png,
    stripes,
    write_classes,
    write_csv,
    write_flat,
    write_parquet,
    write_picture,
    write_tar,
)
from tests.situations.shell import DECODER, TINY, Shell
from tests.situations.situation import Situation

NETWORK = ("--width", 64, "--depth", 2, "--heads", 2)
FINETUNE = ("--epochs", 1, "--eval-every", 1, *TINY)


def labelled(shell: Shell, count: int = 24) -> tuple[Path, list[tuple[str, int]]]:
    images = shell.folder / "images"
    return images, write_flat(images, count)


def signed_labels(shell: Shell) -> None:
    images, rng = shell.folder / "images", np.random.default_rng(0)
    rows = [(f"{number:03d}.png", int(rng.choice([-1, 1]))) for number in range(40)]
    for number, (name, _) in enumerate(rows):
        write_picture(images / name, stripes(5000 + number, 0))
    labels = write_csv(shell.folder / "labels.csv", rows)
    result = shell.done("knn", "--weights", shell.base, "--data", images, "--labels", labels).result
    assert (result["train_images"], result["classes"]) == (40, ["-1", "1"])
    assert result["top1"] < 75
    tuned = shell.done(
        "finetune", "cifar10-finetune", "--weights", shell.base, "--data", images, "--labels", labels, "--out",
        shell.folder / "tuned", *FINETUNE
    ).result  # fmt: skip
    assert (tuned["train_images"], tuned["test_images"], tuned["classes"]) == (32, 8, ["-1", "1"])


def half_labelled(shell: Shell) -> None:
    images, rows = labelled(shell)
    labels = write_csv(
        shell.folder / "half.csv", [(name, kind if i % 2 else "") for i, (name, kind) in enumerate(rows)]
    )
    answer = shell.done("knn", "--weights", shell.base, "--data", images, "--labels", labels, "-k", 3)
    assert answer.result["train_images"] == 12
    assert "12 of 24 images of train without a label" in answer.said
    assert "000.png" in answer.said


def several_labels(shell: Shell) -> None:
    images, rows = labelled(shell)
    labels = write_csv(shell.folder / "several.csv", [(name, "crack;rust" if kind else "rust") for name, kind in rows])
    assert "--task multilabel" in shell.refused("knn", "--weights", shell.base, "--data", images, "--labels", labels)


def measured_labels(shell: Shell) -> None:
    images, rows = labelled(shell)
    labels = write_csv(shell.folder / "measured.csv", [(name, 0.25 * i) for i, (name, _) in enumerate(rows)])
    assert "--task regression" in shell.refused("knn", "--weights", shell.base, "--data", images, "--labels", labels)


def identifiers(shell: Shell) -> None:
    images, rows = labelled(shell)
    labels = write_csv(shell.folder / "ids.csv", [(name, 1000 + 7 * i) for i, (name, _) in enumerate(rows)])
    refusal = shell.refused("knn", "--weights", shell.base, "--data", images, "--labels", labels)
    assert "--task regression" in refusal


def sparse_numbers(shell: Shell) -> None:
    images, rows = labelled(shell)
    large = (1001, 20034, 99999)
    labels = write_csv(shell.folder / "sparse.csv", [(name, large[kind]) for name, kind in rows])
    result = shell.done(
        "finetune", "cifar10-finetune", "--weights", shell.base, "--data", images, "--labels", labels, "--out",
        shell.folder / "tuned", *FINETUNE
    ).result  # fmt: skip
    assert result["classes"] == ["1001", "20034", "99999"]


def one_class(shell: Shell) -> None:
    images, rows = labelled(shell)
    labels = write_csv(shell.folder / "one.csv", [(name, "cat") for name, _ in rows])
    assert "cat" in shell.refused("knn", "--weights", shell.base, "--data", images, "--labels", labels)


def labels_nobody_needs(shell: Shell) -> None:
    pictures = [png(stripes(number, number % 3)) for number in range(24)]
    lists, fractions = shell.folder / "lists", shell.folder / "fractions.tar"
    table = pa.Table.from_pylist(
        [
            {"image": {"bytes": data, "path": None}, "labels": [0, 2] if i % 2 else [1]}
            for i, data in enumerate(pictures)
        ]
    )
    lists.mkdir()
    pq.write_table(table, lists / "train.parquet")
    label = json.dumps({"label": 0.5}).encode()
    write_tar(
        fractions, {k: v for i, data in enumerate(pictures) for k, v in ((f"{i}.png", data), (f"{i}.json", label))}
    )
    for number, data in enumerate((lists, fractions)):
        words = ("--data", data, "--epochs", 1, *TINY, *DECODER, "--image-size", 32, "--patch-size", 8)
        shell.done("pretrain", "vit-b16-800e", "--out", shell.folder / f"run{number}", *words)
        features = shell.folder / f"{number}.parquet"
        assert shell.done("embed", "--weights", shell.base, "--data", data, "--out", features).result["images"] == 24
        assert shell.done("check", data, "--out", shell.folder / f"check{number}").result["images"] == 24
        assert shell.done("pack", data, shell.folder / f"packed{number}").result["images"] == 24


def hidden_test_labels(shell: Shell) -> None:
    data, names = shell.folder / "data", ["c0", "c1", "c2"]
    train = [(png(stripes(100 * k + i, k)), k) for k in range(3) for i in range(6)]
    val = [(png(stripes(900 + 100 * k + i, k)), k) for k in range(3) for i in range(2)]
    write_parquet(data / "train-0.parquet", train, names=names)
    write_parquet(data / "validation-0.parquet", val, names=names)
    write_parquet(data / "test-0.parquet", [(data, -1) for data, _ in val], names=names)
    answer = shell.done("knn", "--weights", shell.base, "--data", data, "-k", 3)
    assert answer.result["test_images"] == 6
    assert answer.result["data"]["measured"]["split"] == "val"
    assert "test" in shell.refused("knn", "--weights", shell.base, "--data", data, "--split", "test")


def unreadable_test_images(shell: Shell) -> None:
    data = shell.folder / "data"
    write_classes(data / "train", kinds=range(3), each=8)
    write_classes(data / "val", kinds=range(3), each=6, seed=1000)
    for number in range(5):
        path = data / "val" / "c1" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:2000])
    words = ("--weights", shell.base, "--data", data)
    out = shell.folder / "tuned"
    for answer in (
        shell.done("knn", *words),
        shell.done("linear", "cifar10-linear", *words, "--cached", "--out", shell.folder / "cached", *NETWORK),
        shell.done("linear", "cifar10-linear", *words, "--out", shell.folder / "linear", *FINETUNE),
        shell.done("finetune", "cifar10-finetune", *words, "--out", out, *FINETUNE),
    ):
        assert answer.result["test_images"] == 13
        assert answer.result["unreadable"]["test"] == 5
        assert "5 of 18" in answer.said
        assert "000.png" in answer.said
    bad = [json.loads(line) for line in (out / "bad_images.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(bad) == 5


def predicting(shell: Shell) -> None:
    data, new = shell.folder / "data", shell.folder / "new"
    write_classes(data, kinds=range(3), each=8)
    write_flat(new, 6, seed=5000)
    (new / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out, table = shell.folder / "run", shell.folder / "new.csv"
    shell.done("linear", "cifar10-linear", "--cached", "--weights", shell.base, "--data", data, "--out", out, *NETWORK)
    shell.done("predict", "--weights", out, "--data", new, "--out", table)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    named = {Path(row["path"]).name: row["label"] for row in rows}
    assert named["broken.png"] == ""
    assert {label for name, label in named.items() if name != "broken.png"} <= {"c0", "c1", "c2"}


SITUATIONS = (
    Situation("labels -1 and 1 in a CSV file", "two classes, `-1` and `1`", signed_labels),
    Situation("a label file with empty cells", "images without a label are left out, counted and named", half_labelled),
    Situation("several labels in a cell or a list", "a classifier is refused: `--task multilabel`", several_labels),
    Situation("measured numbers as labels", "a classifier is refused: `--task regression`", measured_labels),
    Situation("another number for every image", "a classifier is refused: `--task regression`", identifiers),
    Situation("labels 1001, 20034 and 99999", "three classes with these names", sparse_numbers),
    Situation("one class only", "refused, with its name", one_class),
    Situation(
        "lists or fractions as labels, for `pretrain`, `embed`, `check`, `pack`", "no obstacle", labels_nobody_needs
    ),
    Situation(
        "a test split whose labels are kept secret (-1 of named classes)",
        "measured on the validation split; refused when `--split test` asks for it",
        hidden_test_labels,
    ),
    Situation(
        "5 of 18 test images cut off",
        "said, listed in `bad_images.jsonl`, and 13 are measured, by every protocol",
        unreadable_test_images,
    ),
    Situation(
        "`predict` on new images of which one is broken", "a line for each; the broken one has a reason", predicting
    ),
)
