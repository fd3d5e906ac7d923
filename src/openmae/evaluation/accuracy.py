"""Top-1 and top-5 accuracy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    """Accuracy in per cent over `images` images. With five classes or fewer top-5 is 100."""

    top1: float
    top5: float
    images: int


def score(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores:
    """Top-1 and top-5 of class scores [N, classes].

    >>> score(np.array([[0.1, 0.9], [0.8, 0.2]], dtype=np.float32), np.array([1, 1]))
    Scores(top1=50.0, top5=100.0, images=2)
    """
    return scores_of(hits(outputs, labels))


def hits(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is right by top-1, and by top-5: [N, 2]."""
    # How many classes score higher than the true one; ties count half against it, so that constant outputs earn chance.
    true = outputs[np.arange(len(labels)), labels][:, None]
    rank = (outputs > true).sum(axis=1) + ((outputs == true).sum(axis=1) - 1) / 2
    return np.stack([rank < 1, rank < 5], axis=1)


def scores_of(hits_N2: NDArray[np.bool_]) -> Scores:
    """The shares that the hits of N images amount to."""
    images = len(hits_N2)
    top1, top5 = map(int, hits_N2.sum(axis=0))
    return Scores(top1=round(100 * (top1 / images), 4), top5=round(100 * (top5 / images), 4), images=images)
