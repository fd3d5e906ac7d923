"""The labelled images that a protocol may use: to train on, and to measure on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import UNLABELLED, Data, Source, Subset
from openmae.data.targets import Kind, Targets
from openmae.errors import UserError

HELD_OUT = 0.2
WHERE_LABELS_COME_FROM: dict[Kind, str] = {
    "class": "put each class into a folder of its own, or give Parquet with a label column",
    "labels": "give --labels a CSV file with lines such as a.png,crack;rust, or Parquet with lists of labels",
    "number": "give --labels a CSV file with lines such as a.png,12.5, or Parquet with a column of numbers",
}


class Split(NamedTuple):
    """Images, and a known target for each of them."""

    images: Source
    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: NDArray[np.int64]) -> "Split":
        return Split(Subset(self.images, indices), self.targets.subset(indices))


class Splits(NamedTuple):
    """The images to train on, and those to measure on where there is such a split."""

    train: Split
    test: Split | None


def labelled_splits(data: Data, kind: Kind, *, fraction: float, seed: int, hold_out: bool = False) -> Splits:
    """The labelled images of both splits, with the training images reduced to `fraction` of the labels.

    Args:
        data: the data set.
        kind: how its labels are read.
        fraction: see `share`.
        seed: decides which images are taken, and held out.
        hold_out: without a test split, take a fifth of the labelled training images for one, by `share`.

    Raises:
        UserError: when the labels are of another kind, or there are none, or those of the two splits do not fit.
    """
    train = _with_targets(data.train, kind)
    if len(train) == 0 or (kind == "class" and len(train.targets.names) < 2):
        raise UserError(f"these images have no labels to measure with; {WHERE_LABELS_COME_FROM[kind]}")
    test = None
    if data.test is not None:
        test = _with_targets(data.test, kind)
        _require_fitting(data.test, test, train)
    elif hold_out:
        held_out = share(train.targets, HELD_OUT, seed=seed)
        rest = np.setdiff1d(np.arange(len(train)), held_out)
        train, test = train.subset(rest), train.subset(held_out)
    if fraction < 1:
        train = train.subset(share(train.targets, fraction, seed=seed))
    return Splits(train, test)


def share(targets: Targets, fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Indices of `fraction` of the images, drawn with the seed: the same share of every class, else of all images."""
    if targets.kind == "class":
        return balanced_subset(targets.values, fraction, seed=seed)
    drawn = random_stream(seed, Stream.SUBSET).permutation(np.flatnonzero(targets.known))
    return np.sort(drawn[: max(1, round(len(drawn) * fraction))])


def balanced_subset(labels: NDArray[np.int64], fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Indices of `fraction` of the images, the same share of every class and at least one each, drawn with the seed."""
    rng = random_stream(seed, Stream.SUBSET)
    chosen = []
    for label in np.unique(labels[labels != UNLABELLED]):
        members = np.flatnonzero(labels == label)
        chosen.append(rng.permutation(members)[: max(1, round(len(members) * fraction))])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _require_fitting(images: Source, test: Split, train: Split) -> None:
    if len(test) == 0:
        raise UserError("the test split has no labels to measure with; label it, or leave it out")
    missing = len(images) - len(test)
    if missing and test.targets.kind == "number":
        raise UserError(f"{missing} of {len(images)} test images have no number; label them, or leave them out")
    if missing:
        raise UserError(
            f"{missing} of {len(images)} test images are of no class of the training split; give both splits the same "
            "classes"
        )
    if test.targets.kind == "class" and int(test.targets.values.max()) >= len(train.targets.names):
        raise UserError(
            f"the test split has class {int(test.targets.values.max())} but the training split names only "
            f"{len(train.targets.names)} classes; give both splits the same classes"
        )
    if test.targets.kind == "labels" and test.targets.names != train.targets.names:
        raise UserError(
            f"the splits name different labels ({len(train.targets.names)} for training, {len(test.targets.names)} for "
            "the test); give both the same"
        )


def _with_targets(source: Source, kind: Kind) -> Split:
    targets = source.targets(kind)
    whole = Split(source, targets)
    return whole if targets.known.all() else whole.subset(np.flatnonzero(targets.known))
