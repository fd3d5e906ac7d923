"""Numbers of one split mean what that split's names say: splits are joined by the names of their classes."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmae.data.sources import reading_labels
from openmae.data.sources.labels import GivenLabels
from openmae.data.targets import Targets

TRAIN, TEST = ("ant", "bee", "cat"), ("cat", "ant", "bee")


def labels(values: list[Any], names: tuple[str, ...] = (), train: GivenLabels | None = None) -> GivenLabels:
    return GivenLabels(pa.chunked_array([pa.array(values)]), where="here", names=names, train=train)


def classes(targets: Targets) -> list[str | None]:
    """The class of each image by its name."""
    return [targets.names[value] if known else None for value, known in zip(targets.values, targets.known, strict=True)]


def test_classes_of_a_split_that_counts_in_another_order_are_joined_by_name() -> None:
    targets = labels([0, 1, 2, -1, None], TEST, train=labels([0], TRAIN)).targets("class")
    assert targets.names == TRAIN
    assert targets.values.tolist() == [2, 0, 1, -1, -1]


def test_a_class_that_the_training_split_lacks_keeps_its_name() -> None:
    targets = labels([0, 1], ("dog", "bee"), train=labels([0], TRAIN)).targets("class")
    assert targets.names == (*TRAIN, "dog")
    assert classes(targets) == ["dog", "bee"]


@pytest.mark.parametrize(
    ("names", "train"),
    [
        ((), labels([0, 1, 2], TRAIN)),
        (TRAIN, labels([None])),
        (TRAIN, labels([0, 1, 2])),
    ],
)
def test_numbers_stay_where_only_one_split_has_names(names: tuple[str, ...], train: GivenLabels) -> None:
    assert labels([2, 0], names, train).targets("class").values.tolist() == [2, 0]


def test_numbers_without_names_that_are_taken_for_those_of_another_split_are_said(said: list[str]) -> None:
    test = labels([2, 0, -1], train=labels([0, 1, 2], TRAIN))
    assert classes(test.targets("class")) == ["cat", "ant", None]
    assert said == [
        "here gives its classes no names: its numbers are taken for those of the training split (0 is 'ant')"
    ]
    with pytest.raises(ValueError, match=r"here has label 3 without a name, but the training split names 3 classes"):
        labels([3], train=labels([0], TRAIN)).targets("class")


def test_numbers_without_names_are_joined_as_names() -> None:
    targets = labels([4, 3], train=labels([0, 4, 1])).targets("class")
    assert (targets.names, targets.values.tolist()) == (("0", "1", "4", "3"), [2, 3])


def test_numbers_of_a_named_split_are_compared_with_numbers_of_a_training_split_without_names() -> None:
    assert classes(labels([2, 0], TRAIN, train=labels([0, 2])).targets("class")) == ["2", "0"]


def test_labels_of_a_split_that_counts_in_another_order_are_joined_by_name() -> None:
    targets = labels([[0, 2], [1], []], TEST, train=labels([[0]], TRAIN)).targets("labels")
    assert targets.names == TRAIN
    assert targets.values.tolist() == [[False, True, True], [True, False, False], [False, False, False]]


def test_a_label_that_the_training_split_lacks_keeps_its_name() -> None:
    targets = labels([[0], [1]], ("dog", "bee"), train=labels([[0]], TRAIN)).targets("labels")
    assert targets.names == (*TRAIN, "dog")
    assert targets.values.tolist() == [[False, False, False, True], [False, True, False, False]]


@given(count=st.integers(1, 30), data=st.data())
def test_numbers_that_leave_no_gap_are_their_own_places(count: int, data: st.DataObject) -> None:
    values = data.draw(st.permutations(list(range(count)) * 2))
    targets = labels(list(values)).targets("class")
    assert targets.values.tolist() == list(values)
    assert targets.names == tuple(map(str, range(count)))


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_every_whole_number_is_a_class_and_only_null_is_none(values: list[int | None]) -> None:
    assert classes(labels([*values, 0]).targets("class")) == [
        None if value is None else str(value) for value in [*values, 0]
    ]


def test_sparse_numbers_are_as_many_classes_as_there_are_numbers() -> None:
    assert labels([99999, 1001, 20034, 1001]).targets("class").names == ("1001", "20034", "99999")


def test_more_classes_than_a_network_could_tell_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_labels, "MAX_CLASSES", 3)
    assert len(labels([0, 1, 10**12]).targets("class").names) == 3
    with pytest.raises(ValueError, match=r"^here has 4 classes, more than 3; give labels that several images share"):
        labels([0, 1, 2, 10**12]).targets("class")


def test_two_classes_of_one_name_stay_two() -> None:
    targets = labels([0, 2, 1], ("crane", "ant", "crane")).targets("class")
    assert targets.names == ("crane", "ant", "crane (2)")
    assert targets.values.tolist() == [0, 2, 1]


def test_a_text_that_is_none_of_the_named_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"here has label 'emu', which is none of the 3 classes that it names; repair"):
        labels(["ant", "emu"], TRAIN).targets("class")


@pytest.mark.parametrize(
    "texts",
    [
        ["crack|rust", "crack", "rust", "rust|dent", "dent", "crack|dent"],
        ["crack, rust", "crack", "rust", "rust"],
        ["0 5", "5", "0", "0 5 7", "7"],
        ["0 5", "7 5", "0 7", "0 5 7", "7 0"],
    ],
)
def test_several_labels_in_a_text_are_refused_whatever_stands_between_them(texts: list[str]) -> None:
    for kind in ("class", "labels"):
        with pytest.raises(ValueError, match=r"here gives several labels to an image .*--task multilabel"):
            labels(texts).targets(kind)


@pytest.mark.parametrize(
    "texts",
    [
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane"],
        ["cat", "big cat", "dog", "big dog"],
        ["apple, ripe", "apple, rotten", "pear, ripe", "pear, rotten"],
        ["n/a", "AC/DC", "1/2", "3/4"],
    ],
)
def test_names_that_hold_other_signs_are_names(texts: list[str]) -> None:
    assert labels(texts).targets("class").names == tuple(sorted(texts))


@pytest.mark.parametrize("text", ["['a', 'b']", '["a"]', "[0, 2]", "{'a', 'b'}", '{"a": 1}', "(0, 2)"])
def test_lists_that_are_written_as_texts_are_refused(text: str) -> None:
    for kind in ("class", "labels"):
        with pytest.raises(ValueError, match=r"here gives lists that are written as texts .*--task multilabel"):
            labels(["a", text, "b", text]).targets(kind)


def test_lists_of_one_label_each_are_classes() -> None:
    targets = labels([["b"], None, ["a"], ["b"]]).targets("class")
    assert classes(targets) == ["b", None, "a", "b"]
    assert classes(labels([[1], [0], [-1]], TRAIN).targets("class")) == ["bee", "ant", None]
    with pytest.raises(
        ValueError, match=r"here says of some images that they have none of the labels.*--task multilabel"
    ):
        labels([["b"], []]).targets("class")


def test_semicolons_in_texts_of_any_source_stand_between_labels() -> None:
    given = labels(["crack;rust", "rust", None])
    with pytest.raises(ValueError, match=r"several labels to an image \(such as crack;rust\), not one class"):
        given.targets("class")
    assert given.targets("labels").values.tolist() == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([{"a": 1}]),
        pa.array([b"mask"]),
        pa.array([0], pa.timestamp("s")),
        pa.array([[[1]]]),
        pa.array([[0.5]]),
        pa.array([0], pa.date32()),
    ],
)
def test_labels_of_no_use_are_refused_when_they_are_read_and_not_before(values: pa.Array) -> None:
    given = GivenLabels(pa.chunked_array([values]), where="here")
    for kind in ("class", "labels", "number"):
        with pytest.raises(ValueError, match=r"^here has labels of the type .*, which are no classes and no n"):
            given.targets(kind)
