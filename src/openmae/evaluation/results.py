"""The results of the protocols, as they return them and write them to results.json."""

from typing import Any, TypedDict

from openmae.recipes.values import Pooling, TaskName


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
    test_images: int
    top1: float
    """Top-1 accuracy in per cent."""
    top5: float
    """Top-5 accuracy in per cent."""
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


class EmbedResult(TypedDict):
    """The number of images whose features were written, and of those that could not be decoded."""

    images: int
    bad: int
    data: dict[str, Any]
    """The splits with their numbers of images, and what was left out."""
    out: str
