"""Labels of several sources are joined by the names of their classes, whatever form each source has."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmae.data.sources.labels import GivenLabels, joined
from tests.data.sources.test_reading_labels import classes, labels

NAMED = labels([1, 0, -1], ("dog", "cat"))
TEXTS = labels(["cat", None, "emu"])
NUMBERS = labels([7, -1, 30, None])
FRACTIONS = labels([0.5, None])
NOTHING = labels([None, None])


@pytest.mark.parametrize(
    ("parts", "expected", "names"),
    [
        ([NAMED, TEXTS], ["cat", "dog", None, "cat", None, "emu"], ("dog", "cat", "emu")),
        ([TEXTS, NAMED], ["cat", None, "emu", "cat", "dog", None], ("cat", "emu", "dog")),
        ([NUMBERS, TEXTS], ["7", "-1", "30", None, "cat", None, "emu"], ("-1", "30", "7", "cat", "emu")),
        ([NUMBERS, NUMBERS], ["7", "-1", "30", None] * 2, ("-1", "7", "30")),
        ([NAMED, labels([0, 1], ("cat", "dog"))], ["cat", "dog", None, "cat", "dog"], ("dog", "cat")),
        ([NOTHING, NAMED, NOTHING], [None, None, "cat", "dog", None, None, None], ("dog", "cat")),
        ([NOTHING, NOTHING], [None] * 4, ()),
        ([NAMED, labels([5, -1])], ["cat", "dog", None, "5", "-1"], ("dog", "cat", "-1", "5")),
    ],
)
def test_sources_are_joined_by_the_names_of_their_classes(
    parts: list[GivenLabels], expected: list[str | None], names: tuple[str, ...]
) -> None:
    targets = joined(parts).targets("class")
    assert (classes(targets), targets.names) == (expected, names)


def test_one_label_beside_lists_is_a_list_of_one() -> None:
    targets = joined([labels([["cat", "dog"], [], None]), NAMED, labels(["emu", "-"])]).targets("labels")
    found = [{name for name, hot in zip(targets.names, row, strict=True) if hot} for row in targets.values]
    assert found == [{"cat", "dog"}, set(), set(), {"cat"}, {"dog"}, set(), {"emu"}, set()]
    assert targets.known.tolist() == [True, True, False, True, True, False, True, True]


def test_whole_numbers_beside_fractions_are_numbers_and_names_beside_them_are_refused_on_reading() -> None:
    numbers = joined([NUMBERS, FRACTIONS]).targets("number")
    assert numbers.values[numbers.known].tolist() == [7, -1, 30, 0.5]
    both = joined([TEXTS, FRACTIONS])
    with pytest.raises(ValueError, match=r"here gives numbers with fractions and others give classes; give labels of"):
        both.targets("number")


def test_joined_splits_are_joined_by_name_with_the_joined_training_split() -> None:
    train, other = labels([0, 1], ("dog", "cat")), labels(["emu", "cat"])
    test = joined(
        [labels([0], ("cat", "dog"), train=train), labels(["emu"], train=other)], train=joined([train, other])
    )
    assert classes(test.targets("class")) == ["cat", "emu"]
    assert test.targets("class").names == ("dog", "cat", "emu")


def test_numbers_without_names_are_understood_by_their_own_training_split() -> None:
    train = labels([0, 1], ("dog", "cat"))
    assert classes(joined([labels([1, 0], train=train), TEXTS]).targets("class"))[:2] == ["cat", "dog"]


def test_joined_labels_can_be_sent_to_another_process() -> None:
    copy: GivenLabels = pickle.loads(pickle.dumps(joined([NAMED, TEXTS])))
    assert classes(copy.targets("class"))[0] == "cat"


PARTS = st.one_of(
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "1", "2"])), min_size=1),
    st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1),
)


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_joining_changes_the_class_of_no_image(parts: list[list[Any]]) -> None:
    apart = [name for part in parts for name in classes(labels(part).targets("class"))]
    assert classes(joined([labels(part) for part in parts]).targets("class")) == apart
