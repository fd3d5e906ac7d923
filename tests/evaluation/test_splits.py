"""Accuracy, and which labelled images a protocol may use."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmae.data.sources import Data, Source, open_data
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.targets import Kind
from openmae.evaluation.accuracy import score
from openmae.evaluation.splits import Split, Splits, balanced_subset, labelled_splits


def test_top1_and_top5_count_ranks() -> None:
    outputs = np.tile(np.arange(10, dtype=np.float32), (3, 1))  # class 9 scores highest
    scores = score(outputs, np.array([9, 5, 4]))
    assert scores.top1 == pytest.approx(100 / 3, abs=1e-3)
    assert scores.top5 == pytest.approx(200 / 3, abs=1e-3)


def test_constant_outputs_do_not_score_better_than_chance() -> None:
    assert score(np.zeros((100, 10), dtype=np.float32), np.zeros(100, dtype=np.int64)).top1 <= 10


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_balanced_subset_takes_the_same_share_of_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = balanced_subset(labels, fraction, seed=seed)
    assert len(set(chosen.tolist())) == len(chosen)
    for label, count in enumerate(counts):
        assert (labels[chosen] == label).sum() == max(1, round(count * fraction))


def test_balanced_subset_depends_on_the_seed_only() -> None:
    labels = np.repeat(np.arange(4), 50)
    assert (balanced_subset(labels, 0.2, seed=1) == balanced_subset(labels, 0.2, seed=1)).all()
    assert (balanced_subset(labels, 0.2, seed=1) != balanced_subset(labels, 0.2, seed=2)).any()


def test_unlabelled_images_are_never_chosen() -> None:
    labels = np.array([0, -1, 1, -1, 0, 1])
    assert set(balanced_subset(labels, 0.99, seed=0).tolist()) <= {0, 2, 4, 5}


def test_one_per_cent_of_the_bundled_labels_is_ten_per_class() -> None:
    train, test, _ = labelled_splits(open_data("fashion-mnist"), "class", fraction=0.01, seed=0)
    assert np.bincount(train.targets.values).tolist() == [10] * 10
    assert test is not None
    assert len(test) == 2000


def test_held_out_images_are_balanced_and_disjoint_from_the_rest() -> None:
    train = open_data("fashion-mnist").train
    found = labelled_splits(Data(splits={"train": train}), "class", fraction=1.0, seed=3, hold_out=True)
    assert found.test is not None
    assert np.bincount(found.test.targets.values).tolist() == [200] * 10
    names = {found.train.images.name(i) for i in range(len(found.train))}
    assert names.isdisjoint(found.test.images.name(i) for i in range(len(found.test)))
    assert len(found.train) == 8000


class Labels(Labelled):
    """Images that are nothing but names and labels."""

    def __init__(self, values: list[Any], names: tuple[str, ...] = (), train: Source | None = None) -> None:
        given = train.given if isinstance(train, Labelled) else None
        self.given = GivenLabels(pa.chunked_array([pa.array(values)]), where="labels.csv", names=names, train=given)
        self.images = [f"{number:03d}.png" for number in range(len(values))]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> bytes:
        raise OSError(self.name(index))

    def name(self, index: int) -> str:
        return self.images[index]


def data_of(train: list[Any], names: tuple[str, ...] = (), **others: list[Any] | Labels) -> Data:
    first = Labels(train, names)
    rest = {name: Labels(part, names, first) if isinstance(part, list) else part for name, part in others.items()}
    return Data(splits={"train": first, **rest})


def split(data: Data, kind: Kind = "class", **options: Any) -> Splits:
    return labelled_splits(data, kind, **{"fraction": 1.0, "seed": 0, **options})


def taken(part: Split | None) -> list[tuple[str, Any]]:
    """Name and class of each image."""
    assert part is not None
    return [
        (part.images.name(index), part.targets.names[part.targets.values[index]]) for index in range(len(part.images))
    ]


def test_unlabelled_images_cannot_be_measured_on() -> None:
    for data in (data_of([None] * 4), data_of([-1] * 4, ("cat", "dog"))):
        with pytest.raises(ValueError, match="folder of its own"):
            split(data)
    with pytest.raises(ValueError, match="the val split has no labels to measure with; label it, or choose another"):
        split(data_of(["a", "a", "b"], val=[None]))


def test_classes_that_are_measured_but_were_never_trained_on_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"^2 of 3 images of val are of the class 'emu', which no training image has; a"
    ):
        split(data_of(["ant", "ant", "bee"], val=["emu", "ant", "emu"]))
    with pytest.raises(
        ValueError, match=r"^3 of 4 images of test are of 2 classes \(emu: 2, fox: 1\), which no training"
    ):
        split(data_of(["ant", "ant", "bee"], test=["emu", "ant", "fox", "emu"]))
    numbers = data_of([0, 0, 1], test=[3, 1])
    with pytest.raises(ValueError, match="1 of 2 images of test are of the class '3', which no training image has"):
        split(numbers)
    with pytest.raises(ValueError, match="1 of 2 images of test are of the class 'fox', which no training image has"):
        split(data_of([0, 0, 1], ("ant", "bee", "fox"), test=[2, 1]))
    with pytest.raises(ValueError, match="leave the label empty where -1 means that there is none"):
        split(data_of([0, 0, 1], test=[-1]))


def test_labels_that_are_measured_but_were_never_trained_on_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 images of test have the label 'dent', which no training image has"):
        split(data_of([["rust"], ["crack"], []], test=[["rust"], ["dent", "rust"]]), "labels")


def test_splits_that_count_their_classes_in_another_order_are_joined_by_name() -> None:
    train = Labels([0, 1, 2, 0], ("a", "b", "c"))
    val = Labels([0, 1, 2], ("c", "a", "b"))  # not even linked to the training split
    found = split(Data(splits={"train": train, "val": val}))
    assert taken(found.test) == [("000.png", "c"), ("001.png", "a"), ("002.png", "b")]
    assert found.test is not None
    assert found.test.targets.names == found.train.targets.names == ("a", "b", "c")


@pytest.mark.parametrize("kind", ["class", "labels", "number"])
def test_images_without_a_label_are_left_out_counted_and_named(kind: Kind) -> None:
    found = split(data_of([1, None, 2, 2, None], val=[None, 1, 2]), kind)
    assert [found.train.images.name(index) for index in range(len(found.train))] == ["000.png", "002.png", "003.png"]
    assert found.test is not None
    assert len(found.test) == 2
    sentence = found.understood.sentence()
    assert "2 of 5 images of train without a label (train/001.png, train/004.png)" in sentence
    assert "1 of 3 images of val without a label (val/000.png)" in sentence
    assert found.understood.record()["train"]["unlabelled"] == 2


def test_only_a_few_of_many_unlabelled_images_are_named() -> None:
    sentence = split(data_of(["a", "a", "b", *[None] * 9])).understood.sentence()
    assert "left out: 9 of 12 images of train without a label (003.png, 004.png, 005.png, …)" in sentence


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (["cat"] * 40, (), r"all 40 labelled images are of the class 'cat'; label images of another class"),
        ([0, 0, None], ("cat", "dog"), r"all 2 labelled images are of the class 'cat'"),
        (["a", "b", "c"], (), r"3 labelled images have 3 classes \(such as a and c\).* of its own; give classes that"),
        (list(range(48)), (), r"48 labelled images have 48 classes \(such as 0 and 47\).*--task regression"),
        (
            ["0,5 %", "1,25 %", "-7 %"],
            (),
            r"3 labelled images have 3 classes .*write them as plain numbers such as 12\.5",
        ),
        ([*range(12), 3, 4], (), r"14 labelled images have 12 classes .*nearly every image.*--task regression"),
    ],
)
def test_classes_from_which_nothing_can_be_learnt_are_refused(
    values: list[Any], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split(data_of(values, names))


def test_few_images_of_a_few_classes_are_enough() -> None:
    assert len(split(data_of(["a", "b", "c", "c"])).train) == 4
    assert len(split(data_of([*range(12), *range(12)])).train) == 24


def test_test_is_measured_before_val_and_the_one_that_has_labels_before_one_that_has_not() -> None:
    labels: list[Any] = ["a", "a", "b"]

    def measured(**splits: list[Any] | Labels) -> str:
        found = split(data_of(labels, (), **splits)).understood.measured
        assert found is not None
        return found.split

    assert measured(val=["a"], test=["b"]) == "test"
    assert measured(val=["a"], test=[None]) == "val"
    assert measured(val=["a"], extra=["b"]) == "val"
    assert split(data_of(labels, extra=["b"])).test is None


def test_splits_are_chosen_by_name() -> None:
    data = data_of(["a", "a", "b"], val=["a", "b", "b"], test=["b"], hard=["a"])
    assert [found[1] for found in taken(split(data, split="validation").test)] == ["a", "b", "b"]
    assert [found[1] for found in taken(split(data, split="Hard").test)] == ["a"]
    swapped = split(data, split="test", train_split="val")
    assert ([found[1] for found in taken(swapped.train)], len(swapped.test or ())) == (["a", "b", "b"], 1)
    with pytest.raises(ValueError, match=r"no split 'tset'; give --split one of train, val, test, hard"):
        split(data, split="tset")
    with pytest.raises(ValueError, match=r"no split 'x'; give --train-split one of train, val, test, hard"):
        split(data, train_split="x")


def test_nobody_is_measured_on_what_was_trained_on() -> None:
    data = data_of(["a", "a", "b"], val=["a"])
    with pytest.raises(
        ValueError, match=r"--split training would measure on the images that are trained on; choose --s"
    ):
        split(data, split="training")
    assert taken(split(data_of(["a"], val=["a", "b", "b"]), train_split="val", split="train").test) == [
        ("000.png", "a")
    ]


def test_a_class_of_one_image_is_not_held_out() -> None:
    found = split(data_of([*["a"] * 10, *["b"] * 10, "c"]), hold_out=True)
    assert "c" in [name for _, name in taken(found.train)]
    assert sorted(name for _, name in taken(found.test)) == ["a", "a", "b", "b"]
