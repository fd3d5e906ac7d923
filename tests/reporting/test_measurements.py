"""What people see of a measurement and of predictions."""

from typing import Any

import pytest

from openmae.evaluation.results import Measurement
from openmae.reporting.measurements import show_measurement, show_predictions

MEASURED: Measurement = {
    "protocol": "linear",
    "encoder": "pretrained",
    "label_fraction": 0.1,
    "seed": 3,
    "train_images": 100,
    "test_images": 20,
}


def test_a_classification_shows_its_accuracies_and_the_run_folder() -> None:
    logged: Any = {"epoch": 2.0, "loss": 0.3, "lr": 0.1, "gradient_norm": 1.0, "images_per_second": 9.0}
    result: Any = {**MEASURED, **logged, "waiting_for_data": 0.1, "top1": 91.234, "top5": 99.0, "out": "runs/a"}
    assert list(show_measurement(result)) == [
        "linear of the pretrained encoder: top-1 91.23 %, top-5 99.00 %",
        "run folder: runs/a",
    ]


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ({"mean_average_precision": 71.23}, "mean average precision 71.23 %"),
        ({"r2": 0.91234, "mean_absolute_error": 12.3456}, "R² 0.9123, mean absolute error 12.35"),
        ({"some_other_figure": 1.5}, "some other figure 1.5"),
    ],
)
def test_every_figure_of_a_measurement_is_shown(figures: dict[str, float], shown: str) -> None:
    result: Any = {**MEASURED, **figures}
    assert list(show_measurement(result)) == [f"linear of the pretrained encoder: {shown}"]


@pytest.mark.parametrize(
    ("measured", "unreadable", "shown"),
    [
        (13, 5, ", on 13 of 18 test images: 5 could not be read"),
        (1, 1999, ", on only 1 of 2,000 test images: 1,999 could not be read"),
        (18, 0, ""),
    ],
)
def test_the_line_of_the_figures_says_when_they_are_not_over_all_images(
    measured: int, unreadable: int, shown: str
) -> None:
    counts: Any = {"test_images": measured, "unreadable": {"train": 7, "test": unreadable}}
    result: Any = {**MEASURED, "top1": 50.0, **counts}
    assert list(show_measurement(result)) == [f"linear of the pretrained encoder: top-1 50.00 %{shown}"]


def row(name: str, images: int, right: int, confused: tuple[str, int] | None = None) -> Any:
    accuracy = 100 * right / images if images else None
    other = None if confused is None else {"name": confused[0], "images": confused[1]}
    return {"name": name, "images": images, "right": right, "accuracy": accuracy, "most_confused_with": other}


def test_the_worst_five_classes_are_shown_with_what_they_are_taken_for() -> None:
    classes = [
        row("good", 4, 4),
        row("absent", 0, 0),
        row("shirt\x1b[2J", 1, 0, ("coat\n", 1)),
        *(row(f"c{right}", 10, right, ("good", 10 - right)) for right in range(9, 3, -1)),
    ]
    result: Any = {**MEASURED, "top1": 50.0, "mean_class_accuracy": 61.25, "per_class": classes}
    assert list(show_measurement(result))[1:] == [
        "mean accuracy of the classes 61.25 %; worst:",
        "  shirt\\x1b[2J: 0.00 % of 1 image, 1 taken for coat\\n",
        "  c4: 40.00 % of 10 images, 6 taken for good",
        "  c5: 50.00 % of 10 images, 5 taken for good",
        "  c6: 60.00 % of 10 images, 4 taken for good",
        "  c7: 70.00 % of 10 images, 3 taken for good",
    ]


def test_no_class_is_worst_when_all_images_are_right() -> None:
    result: Any = {**MEASURED, "top1": 100.0, "mean_class_accuracy": 100.0, "per_class": [row("a", 3, 3)]}
    assert len(list(show_measurement(result))) == 1


def test_the_labels_that_are_found_worst_are_shown() -> None:
    labels = [
        {"name": name, "images": 3, "average_precision": precision}
        for name, precision in (("a", 90.0), ("b", None), ("c", 12.5), ("d", 100.0))
    ]
    result: Any = {**MEASURED, "mean_average_precision": 50.0, "per_label": labels}
    assert list(show_measurement(result))[1:] == [
        "lowest average precision:",
        "  c: 12.50 %, 3 images",
        "  a: 90.00 %, 3 images",
    ]


def test_predictions_show_the_first_rows_and_the_counts() -> None:
    place = {"split": "train", "error": None}
    first = [
        {**place, "path": "a.png", "label": "crack", "probability": 0.915},
        {**place, "path": "b.png", "label": None, "probability": None, "error": "not an image"},
    ]
    result: Any = {"images": 12, "unreadable": 1, "predicted": {"crack": 11, "good": 1}, "first": first, "out": None}
    assert list(show_predictions(result)) == [
        "  train/a.png: crack (91.5 %)",
        "  train/b.png: not an image",
        "12 images predicted: crack 11, good 1",
        "1 image could not be read",
        "for all of them, add --out F.csv or F.parquet",
    ]
    written: Any = {**result, "unreadable": 0, "out": "p.csv", "predicted": {f"c{n}": 1 for n in range(12)}}
    shown, place_of_file = show_predictions(written)
    assert shown.endswith("c9 1, and 2 more")
    assert place_of_file == "written to p.csv"


def test_labels_and_numbers_are_shown_in_words() -> None:
    place = {"split": "train", "path": "a", "error": None}
    first: Any = [{**place, "labels": ["rust", "dent"]}, {**place, "labels": []}, {**place, "number": 12.3456}]
    result: Any = {"images": 3, "unreadable": 0, "predicted": {}, "first": first, "out": None}
    assert list(show_predictions(result))[:4] == [
        "  train/a: rust, dent",
        "  train/a: none of the labels",
        "  train/a: 12.35",
        "3 images predicted",
    ]
