"""Which class an image is taken for, and what that makes of each class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmae.evaluation.accuracy import hits, outcomes, scores_of
from openmae.evaluation.confusion import class_figures

SCORES = np.eye(3, dtype=np.float32)
TRUE = np.array([0, 0, 0, 1, 1, 1])
TAKEN_FOR = np.array([0, 1, 1, 1, 0, 2])
NAMES = ("a", "b", "c")


@given(seed=st.integers(0, 10_000), levels=st.integers(1, 4))
def test_an_image_is_taken_for_its_class_exactly_where_top1_counts_it_also_in_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, levels, (30, 4)).astype(np.float32), rng.integers(0, 4, 30)
    found = outcomes(scores, labels)
    assert (found[:, :2] == hits(scores, labels)).all()
    assert ((found[:, 2] == found[:, 3]) == found[:, 0]).all()
    highest = scores[np.arange(30), found[:, 3]]
    assert (highest == scores.max(axis=1)).all(), "the class with the highest score, whatever else is as high"


def test_scores_that_are_not_numbers_are_wrong() -> None:
    scores = np.array([[np.nan, np.nan, np.nan], [1, np.nan, 0], [1, 0, 0]], dtype=np.float32)
    assert outcomes(scores, np.array([0, 0, 0]))[:, 0].tolist() == [0, 0, 1]


def test_each_class_has_its_accuracy_and_the_class_that_it_is_confused_with() -> None:
    figures = class_figures(outcomes(SCORES[TAKEN_FOR], TRUE), NAMES)
    first, second, third = figures["per_class"]
    assert first == {
        "name": "a",
        "images": 3,
        "right": 1,
        "accuracy": pytest.approx(100 / 3, abs=1e-3),
        "most_confused_with": {"name": "b", "images": 2},
    }
    assert second["most_confused_with"] == {"name": "a", "images": 1}, "the first of those that are as frequent"
    assert (third["images"], third["accuracy"], third["most_confused_with"]) == (0, None, None)
    assert figures["mean_class_accuracy"] == pytest.approx(100 / 3, abs=1e-3), "over the classes that occur"


def test_rows_of_the_matrix_are_true_classes_and_columns_predicted_ones() -> None:
    confusion = class_figures(outcomes(SCORES[TAKEN_FOR], TRUE), NAMES)["confusion"]
    assert (confusion["rows"], confusion["columns"]) == ("true class", "predicted class")
    assert confusion["matrix"] == [[1, 2, 0], [1, 1, 1], [0, 0, 0]]


def test_the_matrix_of_many_classes_is_a_list_of_what_is_not_zero() -> None:
    scores = np.zeros((3, 101), dtype=np.float32)
    scores[[0, 1, 2], [7, 7, 100]] = 1
    confusion = class_figures(outcomes(scores, np.array([7, 100, 100])), tuple(map(str, range(101))))["confusion"]
    assert "matrix" not in confusion
    assert confusion["entries"] == [[7, 7, 1], [100, 7, 1], [100, 100, 1]]


@given(seed=st.integers(0, 10_000))
def test_the_figures_of_the_classes_do_not_depend_on_the_order_and_add_up_to_top1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = outcomes(rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 5, 40))
    names = tuple("abcde")
    figures = class_figures(found, names)
    assert figures == class_figures(rng.permutation(found), names)
    assert sum(one["right"] for one in figures["per_class"]) == round(scores_of(found).top1 * 40 / 100)
    assert np.trace(figures["confusion"]["matrix"]) == sum(one["right"] for one in figures["per_class"])
