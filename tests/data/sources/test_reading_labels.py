"""Numbers of one split mean what that split's names say: splits are joined by the names of their classes."""

import pyarrow as pa
import pytest

from openmae.data.sources.reading_labels import read_classes, read_labels

TRAIN, TEST = ("ant", "bee", "cat"), ("cat", "ant", "bee")


def test_classes_of_a_split_that_counts_in_another_order_are_joined_by_name() -> None:
    targets = read_classes(pa.chunked_array([[0, 1, 2, -1, None]], pa.int64()), where="x", names=TEST, train=TRAIN)
    assert targets.names == TRAIN
    assert targets.values.tolist() == [2, 0, 1, -1, -1]


def test_a_class_that_the_training_split_lacks_is_no_label() -> None:
    targets = read_classes(pa.chunked_array([[0, 1]], pa.int64()), where="x", names=("dog", "bee"), train=TRAIN)
    assert targets.values.tolist() == [-1, 1]
    assert targets.known.tolist() == [False, True]


@pytest.mark.parametrize(("names", "train"), [((), TRAIN), (TRAIN, ()), (TRAIN, ("0", "1", "2"))])
def test_numbers_stay_where_only_one_split_has_names(names: tuple[str, ...], train: tuple[str, ...]) -> None:
    targets = read_classes(pa.chunked_array([[2, 0]], pa.int64()), where="x", names=names, train=train)
    assert targets.values.tolist() == [2, 0]


def test_labels_of_a_split_that_counts_in_another_order_are_joined_by_name() -> None:
    values = pa.chunked_array([[[0, 2], [1], []]], pa.list_(pa.int64()))
    targets = read_labels(values, where="x", names=TEST, train=TRAIN)
    assert targets.names == TRAIN
    assert targets.values.tolist() == [[False, True, True], [True, False, False], [False, False, False]]


def test_an_image_with_a_label_that_the_training_split_lacks_has_no_target() -> None:
    values = pa.chunked_array([[[0], [1]]], pa.list_(pa.int64()))
    targets = read_labels(values, where="x", names=("dog", "bee"), train=TRAIN)
    assert targets.known.tolist() == [False, True]
    assert targets.values.tolist() == [[False, False, False], [False, True, False]]
