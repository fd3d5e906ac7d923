"""Accuracies and confusions of classes, from results that strangers may have written."""

from typing import Any

from openmae.reporting.report.classes import LARGEST_MATRIX, MOST_CLASSES, Classes, classes_of
from openmae.reporting.report.measured import measurements_in


def found(classes: list[str], *, rows: list[Any] | None = None, **confusion: Any) -> Classes | None:
    per_class = [{"name": name, "images": 10, "accuracy": 50.0} for name in classes] if rows is None else rows
    result = {"protocol": "linear", "top1": 50.0, "classes": classes, "per_class": per_class, "confusion": confusion}
    (measured,) = measurements_in(result)
    return classes_of(measured)


def test_the_matrix_is_the_same_from_rows_and_from_entries() -> None:
    rows = found(["a", "b"], matrix=[[7, 3], [0, 10]])
    entries = found(["a", "b"], entries=[[0, 0, 7], [0, 1, 3], [1, 1, 10]])
    assert rows is not None
    assert entries is not None
    assert rows.matrix == entries.matrix
    assert [[(cell.count, cell.share, cell.right) for cell in row] for row in rows.matrix] == [
        [(7, 0.7, True), (3, 0.3, False)],
        [(0, 0.0, False), (10, 1.0, True)],
    ]
    assert rows.confusions == [("a", "b", 3)]


def test_many_classes_are_a_list_of_their_most_frequent_confusions() -> None:
    names = [f"class {place}" for place in range(LARGEST_MATRIX + 1)]
    entries = [[place, place, 5] for place in range(len(names))] + [[3, 4, 1], [5, 6, 2]]
    classes = found(names, entries=entries)
    assert classes is not None
    assert classes.matrix == []
    assert classes.confusions == [("class 5", "class 6", 2), ("class 3", "class 4", 1)]


def test_the_worst_class_comes_first_and_the_best_of_many_are_left_out() -> None:
    rows = [{"name": f"{place}", "images": 1, "accuracy": float(place)} for place in range(MOST_CLASSES + 5)]
    classes = found([], rows=rows[::-1])
    assert classes is not None
    assert [classes.rows[0].name, classes.rows[-1].name, classes.left_out] == ["0", f"{MOST_CLASSES - 1}", 5]


def test_what_makes_no_sense_is_left_out() -> None:
    rows = [None, {"name": "a"}, {"name": "b", "images": 3, "accuracy": 50.0, "most_confused_with": "c"}]
    classes = found(["a"], rows=rows, matrix=3, entries=[[0, 9, 1], [-1, 0, 1], ["a", 0, 1], 5])
    assert classes is not None
    assert [row.name for row in classes.rows] == ["b"]
    assert (classes.matrix, classes.confusions) == ([], [])
    assert found(["a"], rows=[1]) is None
