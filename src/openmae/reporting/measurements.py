"""Measurements and predictions as people see them."""

from collections.abc import Iterable, Iterator
from typing import Any

from openmae.evaluation.results import Measurement, PredictResult
from openmae.reporter import plain

FIGURES = {
    "top1": "top-1 {:.2f} %",
    "top5": "top-5 {:.2f} %",
    "mean_average_precision": "mean average precision {:.2f} %",
    "r2": "R² {:.4f}",
    "chance": "chance {:.2f} %",
    "mean_absolute_error": "mean absolute error {:.4g}",
    "error_of_the_mean": "that of the mean {:.4g}",
}
"""The figures of a measurement whose name is not how people write them."""
CONTEXT = {"label_fraction", "epoch", "loss", "lr", "gradient_norm", "images_per_second", "waiting_for_data"}
"""Numbers of a measurement that say how it was made."""
BESIDE_CLASSES = "mean_class_accuracy"
"""The figure that is shown with the classes."""
WORST = 5
MOST_COUNTS = 10


def show_measurement(result: Measurement) -> Iterator[str]:
    """The figures on one line, the classes or labels that are recognised worst, and the run folder."""
    hidden = CONTEXT | {BESIDE_CLASSES}
    figures = {name: value for name, value in result.items() if isinstance(value, float) and name not in hidden}
    shown = ", ".join(FIGURES.get(name, f"{name.replace('_', ' ')} {{:.4g}}").format(figures[name]) for name in figures)
    yield f"{result['protocol']} of the {result['encoder']} encoder: {shown}{_measured_on(result)}"
    yield from _worst_classes(result)
    yield from _worst_labels(result)
    if "out" in result:
        yield f"run folder: {result['out']}"


def show_predictions(result: PredictResult) -> Iterator[str]:
    """The first rows unless all were written, and how many images were taken for each class."""
    if result["out"] is None:
        yield from map(_row, result["first"])
    counts = [f"{plain(name)} {count:,}" for name, count in result["predicted"].items()]
    more = f", and {len(counts) - MOST_COUNTS:,} more" if len(counts) > MOST_COUNTS else ""
    shown = f": {', '.join(counts[:MOST_COUNTS])}{more}" if counts else ""
    yield f"{_images(result['images'])} predicted{shown}"
    if result["unreadable"]:
        yield f"{_images(result['unreadable'])} could not be read"
    yield "for all of them, add --out F.csv or F.parquet" if result["out"] is None else f"written to {result['out']}"


def _row(row: dict[str, Any]) -> str:
    """A prediction in a few words."""
    place = f"  {plain(row['split'])}/{plain(row['path'])}"
    if row["error"] is not None:
        return f"{place}: {plain(row['error'])}"
    if "number" in row:
        return f"{place}: {row['number']:.4g}"
    if "labels" in row:
        return f"{place}: {', '.join(map(plain, row['labels'])) or 'none of the labels'}"
    return f"{place}: {plain(row['label'])} ({100 * row['probability']:.1f} %)"


def _measured_on(result: Measurement) -> str:
    """A part of the sentence that nobody can overlook, when the figures are not over all test images."""
    unreadable = result["unreadable"]["test"] if "unreadable" in result else 0
    if not unreadable:
        return ""
    images = result["test_images"]
    only = "only " if images < unreadable else ""
    return f", on {only}{images:,} of {images + unreadable:,} test images: {unreadable:,} could not be read"


def _worst_classes(result: Measurement) -> Iterable[str]:
    wrong = [one for one in result.get("per_class", []) if one["accuracy"] is not None and one["accuracy"] < 100]
    if not wrong:
        return
    yield f"mean accuracy of the classes {result[BESIDE_CLASSES]:.2f} %; worst:"  # type: ignore[literal-required]
    for one in sorted(wrong, key=lambda one: one["accuracy"] or 0)[:WORST]:
        confused = one["most_confused_with"]
        taken = "" if confused is None else f", {confused['images']:,} taken for {plain(confused['name'])}"
        yield f"  {plain(one['name'])}: {one['accuracy']:.2f} % of {_images(one['images'])}{taken}"


def _worst_labels(result: Measurement) -> Iterable[str]:
    occurring = [one for one in result.get("per_label", []) if one["average_precision"] is not None]
    lower = sorted(
        (one for one in occurring if (one["average_precision"] or 0) < 100),
        key=lambda one: one["average_precision"] or 0,
    )
    if lower:
        yield "lowest average precision:"
    for one in lower[:WORST]:
        yield f"  {plain(one['name'])}: {one['average_precision']:.2f} %, {_images(one['images'])}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
