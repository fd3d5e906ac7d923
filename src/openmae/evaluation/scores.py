"""Top-1 and top-5 accuracy, and the labelled images that a protocol may use."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import UNLABELLED, Data, Source, Subset
from openmae.errors import UserError

HELD_OUT = 0.2


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
    return scores_of(count_hits(outputs, labels))


def count_hits(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many images are right by top-1, right by top-5, and there at all: [3], to be added up over batches."""
    # How many classes score higher than the true one; ties count half against it, so that constant outputs earn chance.
    true = outputs[np.arange(len(labels)), labels][:, None]
    rank = (outputs > true).sum(axis=1) + ((outputs == true).sum(axis=1) - 1) / 2
    return np.array([(rank < 1).sum(), (rank < 5).sum(), len(labels)], dtype=np.int64)


def scores_of(hits: NDArray[np.int64]) -> Scores:
    """The shares that the counts of `count_hits` amount to."""
    top1, top5, images = map(int, hits)
    return Scores(top1=round(100 * (top1 / images), 4), top5=round(100 * (top5 / images), 4), images=images)


def labelled_splits(data: Data, *, fraction: float, seed: int) -> tuple[Source, Source | None]:
    """The labelled training images, reduced to `fraction` of the labels, and the labelled test images if there are any.

    Raises:
        UserError: when the training images have no labels.
    """
    train = _with_labels(data.train)
    if len(train) == 0 or len(train.classes) < 2:
        raise UserError(
            "these images have no labels to measure with; put each class into a folder of its own, or give Parquet "
            "with a label column"
        )
    test = _with_labels(data.test) if data.test is not None else None
    if test is not None and len(test) == 0:
        raise UserError("the test split has no labels to measure with; label it, or leave it out")
    if test is not None and data.test is not None and len(test) < len(data.test):
        raise UserError(
            f"{len(data.test) - len(test)} of {len(data.test)} test images are of no class of the training split; give "
            "both splits the same classes"
        )
    if test is not None and int(test.labels.max()) >= len(train.classes):
        raise UserError(
            f"the test split has class {int(test.labels.max())} but the training split names only {len(train.classes)} "
            "classes; give both splits the same classes"
        )
    if fraction < 1:
        train = Subset(train, balanced_subset(train.labels, fraction, seed=seed))
    return train, test


def with_held_out(data: Data, *, seed: int) -> Data:
    """`data` itself when it has a test split; otherwise a balanced fifth of its labelled images becomes one."""
    if data.test is not None:
        return data
    train = _with_labels(data.train)
    held_out = balanced_subset(train.labels, HELD_OUT, seed=seed)
    rest = np.setdiff1d(np.arange(len(train)), held_out)
    return Data(train=Subset(train, rest), test=Subset(train, held_out))


def balanced_subset(labels: NDArray[np.int64], fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Indices of `fraction` of the images, the same share of every class and at least one each, drawn with the seed."""
    rng = random_stream(seed, Stream.SUBSET)
    chosen = []
    for label in np.unique(labels[labels != UNLABELLED]):
        members = np.flatnonzero(labels == label)
        chosen.append(rng.permutation(members)[: max(1, round(len(members) * fraction))])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _with_labels(source: Source) -> Source:
    labelled = np.flatnonzero(source.labels != UNLABELLED)
    return source if len(labelled) == len(source) else Subset(source, labelled)
