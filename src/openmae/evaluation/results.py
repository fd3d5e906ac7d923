"""The results of the protocols, as they return them and write them to results.json."""

from typing import Any, Literal, TypedDict

from openmae.evaluation.confusion import ClassAccuracy, Confusion
from openmae.recipes.values import Pooling, TaskName


class Unreadable(TypedDict):
    """How many images of each split could not be read."""

    train: int
    test: int


class UnreadableImage(TypedDict):
    """An image that could not be read, and why."""

    split: Literal["train", "test"]
    name: str
    reason: str


class UnreadableKeys(TypedDict):
    """The keys of a result that say what could not be read."""

    unreadable: Unreadable
    unreadable_images: list[UnreadableImage]


class LabelPrecision(TypedDict):
    """Average precision of one label in per cent, and how many measured images have it; None without any."""

    name: str
    images: int
    average_precision: float | None


class Measurement(TypedDict, total=False):
    """An encoder measured by kNN, linear evaluation or fine-tuning. Protocols and tasks leave out what they lack."""

    protocol: str
    task: TaskName
    recipe: str
    encoder: str
    """Either "pretrained", or "untrained" for fresh weights."""
    weights: str
    label_fraction: float
    seed: int
    train_images: int
    """Those that could be read."""
    test_images: int
    """Those that were measured: all figures are over these."""
    unreadable: Unreadable
    unreadable_images: list[UnreadableImage]
    """The first ten of each split; a run folder lists all in bad_images.jsonl."""
    data: dict[str, Any]
    """What the data set was taken for: splits, classes, and what was left out."""
    classes: list[str]
    """The names of the classes."""
    labels: list[str]
    """The names of the labels of multilabel."""
    top1: float
    """Top-1 accuracy in per cent."""
    top5: float
    """Top-5 accuracy in per cent."""
    mean_class_accuracy: float
    """The mean over the classes of their accuracy, in per cent: each class counts the same."""
    per_class: list[ClassAccuracy]
    confusion: Confusion
    per_label: list[LabelPrecision]
    mean_average_precision: float
    """Of the labels that occur in the test split, in per cent."""
    chance: float
    """Mean average precision of random outputs, in per cent."""
    r2: float
    """Coefficient of determination: 1 is perfect."""
    mean_absolute_error: float
    """In the unit of the numbers."""
    error_of_the_mean: float
    """Mean absolute error of a predictor that always gives the mean of the training numbers."""
    out: str
    cached: bool
    neighbours: int
    pool: Pooling
    leave_one_out: bool


class PredictResult(TypedDict):
    """How many `images` have a prediction, and how many are `unreadable`; the rows themselves are in the file `out`."""

    task: TaskName
    weights: str
    images: int
    unreadable: int
    predicted: dict[str, int]
    """Images by predicted class or label, the most frequent first; {} for numbers."""
    first: list[dict[str, Any]]
    """The first ten rows."""
    out: str | None


class EmbedResult(TypedDict):
    """The number of images whose features were written, and of those that could not be decoded."""

    images: int
    bad: int
    out: str
