"""Accuracy, and which labelled images a protocol may use."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from openmae.data.sources import Data, ParquetSource, Source, open_data
from openmae.data.sources.labels import GivenLabels
from openmae.evaluation.accuracy import score
from openmae.evaluation.splits import balanced_subset, labelled_splits


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
    train, test = labelled_splits(open_data("fashion-mnist"), "class", fraction=0.01, seed=0)
    assert np.bincount(train.targets.values).tolist() == [10] * 10
    assert test is not None
    assert len(test) == 2000


def test_held_out_images_are_balanced_and_disjoint_from_the_rest() -> None:
    train = open_data("fashion-mnist").train
    split = labelled_splits(Data(splits={"train": train}), "class", fraction=1.0, seed=3, hold_out=True)
    assert split.test is not None
    assert np.bincount(split.test.targets.values).tolist() == [200] * 10
    names = {split.train.images.name(i) for i in range(len(split.train))}
    assert names.isdisjoint(split.test.images.name(i) for i in range(len(split.test)))
    assert len(split.train) == 8000


def relabelled(source: Source, change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Source:
    assert isinstance(source, ParquetSource)
    source.given = GivenLabels(pa.chunked_array([pa.array(change(source.labels))]), where="changed")
    return source


def test_unlabelled_images_cannot_be_measured_on(tmp_path: object) -> None:
    train = relabelled(open_data("fashion-mnist").train, lambda labels: np.full(len(labels), -1))
    with pytest.raises(ValueError, match="folder of its own"):
        labelled_splits(Data(splits={"train": train}), "class", fraction=1.0, seed=0)


def test_a_test_label_beyond_the_training_classes_is_refused() -> None:
    data = open_data("fashion-mnist")
    assert data.test is not None
    data = Data(splits={"train": data.train, "test": relabelled(data.test, lambda labels: labels + 1)})
    with pytest.raises(ValueError, match="has class 10 but the training split names only 10 classes"):
        labelled_splits(data, "class", fraction=1.0, seed=0)


def test_test_images_of_no_training_class_are_not_left_out_silently() -> None:
    data = open_data("fashion-mnist")
    assert data.test is not None
    data = Data(
        splits={"train": data.train, "test": relabelled(data.test, lambda labels: np.where(labels == 3, -1, labels))}
    )
    with pytest.raises(ValueError, match="200 of 2000 test images are of no class of the training split"):
        labelled_splits(data, "class", fraction=1.0, seed=0)
