"""How each class is recognised: the confusion matrix, the accuracies, and the worst mistakes as pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openmae.evaluation.classifier import load_classifier
from openmae.reporting.report.measured import PROTOCOLS, Measured, items, mapping, number
from openmae.reporting.report.pictures import Picture
from openmae.reporting.report.sample import draw_sample

LARGEST_MATRIX = 20
"""With more classes the matrix is a picture of colours, and the most frequent confusions are listed."""
MOST_CONFUSIONS = 12
MOST_CLASSES = 60
MISTAKES = 12
IMAGES = 600
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class: how many images of it were measured, and how many of them are right, in per cent."""

    name: str
    images: int
    accuracy: float
    confused_with: str
    confused_images: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How many images of one class were taken for another: the number, and its share of the row, 0 … 1."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of one measurement, the worst first, and the matrix of up to 20 of them."""

    measured_by: str
    test_images: int
    mean_accuracy: float | None
    rows: list[ClassRow]
    left_out: int
    names: list[str]
    matrix: list[list[Cell]]
    confusions: list[tuple[str, str, int]]
    """The most frequent: true class, predicted class, images."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image that was taken for another class, and how sure the classifier was, in per cent."""

    name: str
    picture: Picture
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The mistakes that the classifier was surest of, among `images`, of which `wrong` were wrong."""

    images: int
    wrong: int
    worst: list[Mistake]


def classes_of(measured: Measured) -> Classes | None:
    """The classes of a measurement; None where its result does not describe any."""
    result = measured.result
    rows = [row for one in items(result.get("per_class")) if (row := _row(one)) is not None]
    if not rows:
        return None
    names, matrix, confusions = _confusion(result)
    rows.sort(key=lambda row: (row.accuracy, row.name))
    return Classes(
        measured_by=f"{PROTOCOLS[measured.protocol]} with {100 * measured.label_fraction:.3g} % of the labels",
        test_images=sum(row.images for row in rows),
        mean_accuracy=number(result.get("mean_class_accuracy")),
        rows=rows[:MOST_CLASSES],
        left_out=max(0, len(rows) - MOST_CLASSES),
        names=names,
        matrix=matrix,
        confusions=confusions,
    )


@torch.inference_mode()
def mistakes_of(folder: Path, places: str | tuple[str, ...], *, seed: int) -> Mistakes | None:
    """The worst mistakes of the classifier in a run folder, on images of the test split; None without classes.

    Raises:
        UserError: when the classifier or the data cannot be read.
    """
    classifier = load_classifier(folder)
    sample = draw_sample(classifier.network, places, count=IMAGES, seed=seed)
    names = classifier.class_names
    if not sample.classes or not sample.held_out or not set(sample.classes) <= set(names):
        return None
    true = np.array([names.index(sample.label(place)) if sample.label(place) else -1 for place in range(len(sample))])
    outputs = [
        classifier(sample.normalised(slice(start, start + BATCH))).softmax(dim=1).float()
        for start in range(0, len(sample), BATCH)
    ]
    probabilities = torch.cat(outputs).numpy()
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero((predicted != true) & (true >= 0))
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:MISTAKES]
    return Mistakes(
        images=int((true >= 0).sum()),
        wrong=len(wrong),
        worst=[
            Mistake(
                name=sample.names[place],
                picture=Picture(sample.visible(place), longest=128),
                true=names[true[place]],
                predicted=names[predicted[place]],
                probability=100 * float(probabilities[place, predicted[place]]),
            )
            for place in map(int, worst)
        ],
    )


def has_classifier(folder: Path) -> bool:
    """Whether a run folder holds the weights of a classifier."""
    return (folder / "encoder.safetensors").is_file()


def _row(one: Any) -> ClassRow | None:
    if not isinstance(one, Mapping):
        return None
    accuracy, images = number(one.get("accuracy")), number(one.get("images"))
    if accuracy is None or not images:
        return None
    confused = mapping(one.get("most_confused_with"))
    return ClassRow(
        name=str(one.get("name")),
        images=int(images),
        accuracy=accuracy,
        confused_with=str(confused.get("name", "")),
        confused_images=int(number(confused.get("images")) or 0),
    )


def _confusion(result: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]], list[tuple[str, str, int]]]:
    """Names and cells of the classes that occur, and the most frequent confusions."""
    names = [str(name) for name in items(result.get("classes"))]
    confusion = mapping(result.get("confusion"))
    counts: dict[tuple[int, int], int] = {}
    for true, row in enumerate(items(confusion.get("matrix"))):
        counts |= {(true, place): int(images) for place, images in enumerate(items(row)) if number(images)}
    for entry in items(confusion.get("entries")):
        if isinstance(entry, list) and len(entry) == 3 and all(number(value) is not None for value in entry):
            counts[int(entry[0]), int(entry[1])] = int(entry[2])
    counts = {pair: images for pair, images in counts.items() if max(pair) < len(names) and min(pair) >= 0}
    wrong = sorted(((pair, images) for pair, images in counts.items() if pair[0] != pair[1]), key=lambda one: -one[1])
    confusions = [(names[true], names[taken], images) for (true, taken), images in wrong[:MOST_CONFUSIONS]]
    occurring = sorted({place for pair in counts for place in pair})
    if len(occurring) > LARGEST_MATRIX:
        return [], [], confusions
    totals = {true: sum(counts.get((true, taken), 0) for taken in occurring) for true in occurring}
    matrix = [
        [
            Cell(
                count=counts.get((true, taken), 0),
                share=counts.get((true, taken), 0) / max(1, totals[true]),
                right=true == taken,
            )
            for taken in occurring
        ]
        for true in occurring
    ]
    return [names[place] for place in occurring], matrix, confusions
