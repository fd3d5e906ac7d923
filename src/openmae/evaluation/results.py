"""What the protocols return, and write to results.json."""

from typing import TypedDict

from openmae.recipes.values import Pooling


class Measurement(TypedDict, total=False):
    """An encoder measured by kNN, linear evaluation or fine-tuning. Protocols and tasks leave out what they lack."""

    protocol: str
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
    out: str
    cached: bool
    neighbours: int
    pool: Pooling
    leave_one_out: bool


class EmbedResult(TypedDict):
    """The number of images whose features were written, and of those that could not be decoded."""

    images: int
    bad: int
    out: str
