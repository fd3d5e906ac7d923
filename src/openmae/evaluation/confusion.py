"""Which classes are recognised, and for which others they are taken."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

# The matrix of more classes is mostly zeros: its other entries are listed.
LARGEST_MATRIX = 100


class TakenFor(TypedDict):
    """A wrong class, and how many images were taken for it."""

    name: str
    images: int


class ClassAccuracy(TypedDict):
    """How many of the measured `images` of a class are `right`; the accuracy in per cent is None without images."""

    name: str
    images: int
    right: int
    accuracy: float | None
    most_confused_with: TakenFor | None


class Confusion(TypedDict, total=False):
    """How many images of each true class are taken for each class; both are places in `classes`."""

    rows: str
    columns: str
    matrix: list[list[int]]
    """Up to 100 classes."""
    entries: list[list[int]]
    """For more classes: [true, predicted, images] wherever there are any."""


class ClassFigures(TypedDict):
    """The keys of a result that say how each class is recognised."""

    mean_class_accuracy: float
    per_class: list[ClassAccuracy]
    confusion: Confusion


def class_figures(outcomes_N4: NDArray[np.int64], names: tuple[str, ...]) -> ClassFigures:
    """Accuracy per class, its mean over the classes that occur, and the confusion matrix, from `accuracy.outcomes`."""
    classes = len(names)
    pairs, counts = np.unique(outcomes_N4[:, 2] * classes + outcomes_N4[:, 3], return_counts=True)
    entries = [(*divmod(int(pair), classes), int(count)) for pair, count in zip(pairs, counts, strict=True)]
    images, right = [0] * classes, [0] * classes
    confused: list[tuple[int, int] | None] = [None] * classes
    for true, predicted, count in entries:
        images[true] += count
        if true == predicted:
            right[true] = count
        elif (worst := confused[true]) is None or count > worst[1]:
            confused[true] = (predicted, count)
    per_class = [
        ClassAccuracy(
            name=name,
            images=images[place],
            right=right[place],
            accuracy=round(100 * right[place] / images[place], 4) if images[place] else None,
            most_confused_with=None
            if (worst := confused[place]) is None
            else {"name": names[worst[0]], "images": worst[1]},
        )
        for place, name in enumerate(names)
    ]
    return {
        "mean_class_accuracy": mean_class_accuracy(outcomes_N4),
        "per_class": per_class,
        "confusion": _confusion(entries, classes),
    }


def mean_class_accuracy(outcomes_N4: NDArray[np.int64]) -> float:
    """The mean over the classes that occur of the share that is right, in per cent: each class counts the same."""
    images = np.bincount(outcomes_N4[:, 2])
    right = np.bincount(outcomes_N4[:, 2], weights=outcomes_N4[:, 0])
    return round(float(100 * (right[images > 0] / images[images > 0]).mean()), 4)


def _confusion(entries: list[tuple[int, int, int]], classes: int) -> Confusion:
    found = Confusion(rows="true class", columns="predicted class")
    if classes > LARGEST_MATRIX:
        found["entries"] = [list(entry) for entry in entries]
        return found
    matrix = [[0] * classes for _ in range(classes)]
    for true, predicted, count in entries:
        matrix[true][predicted] = count
    found["matrix"] = matrix
    return found
