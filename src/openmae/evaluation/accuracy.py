"""Top-1 and top-5 accuracy, and the class that each image is taken for."""

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
    return scores_of(outcomes(outputs, labels))


def hits(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is right by top-1, and by top-5: [N, 2]."""
    # How many classes score higher than the true one; ties count half against it, so that constant outputs earn chance.
    true = outputs[np.arange(len(labels)), labels][:, None]
    rank = (outputs > true).sum(axis=1) + ((outputs == true).sum(axis=1) - 1) / 2
    rank[np.isnan(outputs).any(axis=1)] = np.inf  # NaN is neither higher nor equal: it would be right
    return np.stack([rank < 1, rank < 5], axis=1)


def outcomes(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each image [N, 4]: right by top-1, right by top-5, the true class, and the class that it is taken for.

    It is taken for its true class exactly where top-1 counts it as right, so that both agree in ties, too.
    """
    right_N2 = hits(outputs, labels)
    predicted = np.where(right_N2[:, 0], labels, outputs.argmax(axis=1))
    tied = np.flatnonzero(~right_N2[:, 0] & (predicted == labels))
    others = outputs[tied].copy()
    others[np.arange(len(tied)), labels[tied]] = -np.inf
    predicted[tied] = others.argmax(axis=1)
    return np.concatenate([right_N2, labels[:, None], predicted[:, None]], axis=1, dtype=np.int64)


def scores_of(outcomes_N4: NDArray[np.int64]) -> Scores:
    """The shares that the outcomes of N images amount to."""
    images = len(outcomes_N4)
    top1, top5 = map(int, outcomes_N4[:, :2].sum(axis=0))
    return Scores(top1=round(100 * (top1 / images), 4), top5=round(100 * (top5 / images), 4), images=images)
