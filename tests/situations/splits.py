"""Situations: how a data set is divided, and which images have a class."""

import pyarrow.parquet as pq

from tests.situations.making import png, stripes, write_classes, write_flat, write_parquet, write_picture, write_plain
from tests.situations.shell import DECODER, TINY, Shell
from tests.situations.situation import Situation


def three_splits(shell: Shell) -> None:
    data = shell.folder / "data"
    for split, each, seed in (("train", 8, 0), ("val", 4, 1000), ("test", 3, 2000)):
        write_classes(data / split, kinds=range(2), each=each, seed=seed)
    write_flat(data / "unlabeled", 6, kinds=2, seed=3000)
    usual = shell.done("knn", "--weights", shell.base, "--data", data)
    assert (usual.result["train_images"], usual.result["test_images"]) == (16, 6)
    assert "train: 16 images of 2 classes c0" in usual.said
    assert "measured on test: 6" in usual.said
    assert "unlabeled" in usual.said
    assert "val" in usual.said
    chosen = shell.done("knn", "--weights", shell.base, "--data", data, "--split", "val")
    assert chosen.result["test_images"] == 8
    assert chosen.result["data"]["measured"]["split"] == "val"
    assert shell.done("check", data, "--out", shell.folder / "check").result["images"] == 16 + 8 + 6 + 6
    shell.done("pack", data, shell.folder / "packed")
    again = shell.done("knn", "--weights", shell.base, "--data", shell.folder / "packed", "--split", "val")
    assert again.result["test_images"] == 8
    features = shell.folder / "features.parquet"
    shell.done("embed", "--weights", shell.base, "--data", data, "--out", features)
    splits = pq.read_table(features)["split"].to_pylist()
    assert {name: splits.count(name) for name in set(splits)} == {"train": 16, "val": 8, "test": 6, "unlabeled": 6}
    words = ("--data", data, "--epochs", 1, *TINY, *DECODER, "--image-size", 32, "--patch-size", 8)
    trained = shell.done("pretrain", "vit-b16-800e", "--out", shell.folder / "all", *words)
    assert "22 images" in trained.said


def three_splits_in_parquet(shell: Shell) -> None:
    data = shell.folder / "data"
    for name, each, seed in (("train", 8, 0), ("validation", 4, 1000), ("test", 3, 2000)):
        rows = [(png(stripes(seed + 100 * kind + i, kind)), kind) for kind in range(2) for i in range(each)]
        write_parquet(data / f"{name}-00000-of-00001.parquet", rows)
    for split, images in ((None, 6), ("val", 8), ("test", 6)):
        chosen = () if split is None else ("--split", split)
        result = shell.done("knn", "--weights", shell.base, "--data", data, *chosen).result
        assert (result["train_images"], result["test_images"]) == (16, images)
    refusal = shell.refused("knn", "--weights", shell.base, "--data", data, "--split", "holdout")
    assert "holdout" in refusal
    assert "train, val, test" in refusal


def stray_pictures(shell: Shell) -> None:
    data = shell.folder / "data"
    write_plain(data)
    for split, seed in (("train", 1), ("val", 2)):
        write_picture(data / split / "overview.png", stripes(seed, 0))
    answer = shell.done("knn", "--weights", shell.base, "--data", data)
    assert (answer.result["train_images"], answer.result["test_images"]) == (48, 18)
    assert "overview.png" in answer.said


def renamed_classes(shell: Shell) -> None:
    data, names, others = shell.folder / "data", ["c0", "c1", "c2"], ["c2", "c0", "c1"]
    train = [(png(stripes(100 * k + i, k)), names.index(f"c{k}")) for k in range(3) for i in range(12)]
    test = [(png(stripes(1000 + 100 * k + i, k)), others.index(f"c{k}")) for k in range(3) for i in range(4)]
    write_parquet(data / "train-0.parquet", train, names=names)
    write_parquet(data / "test-0.parquet", test, names=others)
    result = shell.done("knn", "--weights", shell.base, "--data", data, "-k", 5).result
    assert result["top1"] == 100.0
    assert result["classes"] == names


def unknown_class(shell: Shell) -> None:
    data = shell.folder / "data"
    write_classes(data / "train", kinds=(0, 1), each=6)
    write_classes(data / "val", kinds=(0, 1, 2), each=3, seed=1000)
    refusal = shell.refused("knn", "--weights", shell.base, "--data", data)
    assert "c2" in refusal
    assert "3" in refusal


def missing_class(shell: Shell) -> None:
    data = shell.folder / "data"
    write_classes(data / "train", kinds=(0, 1, 2), each=6)
    write_classes(data / "val", kinds=(0, 2), each=3, seed=1000)
    answer = shell.done("knn", "--weights", shell.base, "--data", data, "-k", 5)
    assert answer.result["top1"] == 100.0
    assert answer.result["classes"] == ["c0", "c1", "c2"]


def several_places(shell: Shell) -> None:
    first, second = shell.folder / "first", shell.folder / "second"
    write_classes(first, kinds=(0, 1), each=5)
    write_classes(second, kinds=(1, 2), each=5, seed=500)
    answer = shell.done("knn", "--weights", shell.base, "--data", first, "--data", second, "-k", 3)
    assert answer.result["train_images"] == 20
    assert answer.result["classes"] == ["c0", "c1", "c2"]


def flag_given_twice(shell: Shell) -> None:
    refusal = shell.refused("knn", "--weights", shell.base, "--data", "fashion-mnist", "-k", 3, "--neighbours", 5)
    assert "neighbours" in refusal
    assert "twice" in refusal


def list_of_paths(shell: Shell) -> None:
    rows = write_flat(shell.folder / "images", 12)
    listing = shell.folder / "list.txt"
    listing.write_text("".join(f"images/{name}\n" for name, _ in rows[:9]), encoding="utf-8")
    assert shell.done("check", listing, "--out", shell.folder / "check").result["images"] == 9
    assert shell.done("check", f"{shell.folder}/images/*.png", "--out", shell.folder / "c2").result["images"] == 12


def own_output(shell: Shell) -> None:
    data = shell.folder / "photos"
    write_flat(data, 12)
    words = ("--data", data, "--epochs", 1, *TINY, *DECODER, "--image-size", 32, "--patch-size", 8)
    shell.done("pretrain", "vit-b16-800e", "--out", data / "runs" / "mine", *words)
    shell.done("check", data, "--out", data / "checked")
    shell.done("reconstruct", "--weights", shell.base, "--out", data / "picture.png", data / "000.png")
    shell.done("embed", "--weights", shell.base, "--data", data, "--out", data / "features.parquet")
    probe = shell.folder / "probe"
    plain = ("--cached", "--weights", shell.base, "--data", shell.base.parent / "plain", "--out", probe)
    shell.done("linear", "cifar10-linear", *plain, "--width", 64, "--depth", 2, "--heads", 2)
    shell.done("predict", "--weights", probe, "--data", data, "--out", data / "labels" / "predictions.parquet")
    assert shell.done("check", data, "--out", shell.folder / "again").result["images"] == 12


SITUATIONS = (
    Situation(
        "`train/`, `val/`, `test/` with classes and `unlabeled/` without",
        "measured on `test`, or on the split that `--split` names; pre-training takes `train` and `unlabeled`; "
        "`embed`, `check` and `pack` take all four and keep which is which",
        three_splits,
    ),
    Situation(
        "the same as `train-….parquet`, `validation-….parquet`, `test-….parquet`",
        "the same splits as in folders; an unknown `--split` is refused with the names that are there",
        three_splits_in_parquet,
    ),
    Situation(
        "pictures beside the class folders of a split",
        "left out of measuring, with their names; pre-training takes them",
        stray_pictures,
    ),
    Situation("two splits whose metadata number the same class names differently", "joined by name", renamed_classes),
    Situation("a class in the test split that the training split lacks", "refused, with its name", unknown_class),
    Situation("a class in the training split that the test split lacks", "measured on the others", missing_class),
    Situation("`--data a --data b`", "one data set; classes are joined by name", several_places),
    Situation("any other flag given twice", "refused, with both values", flag_given_twice),
    Situation("`'photos/*.jpg'`, or a text file with a path a line", "these images", list_of_paths),
    Situation(
        "run folders, checks, pictures and features that OpenMAE wrote into the data folder",
        "left out",
        own_output,
    ),
)
