"""The labelled images that a protocol may use: to train on, and to measure on."""

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import UNLABELLED, Data, FolderSource, LeftOut, Source, Subset
from openmae.data.sources.split_names import split_of_folder
from openmae.data.targets import Kind, Targets
from openmae.errors import UserError
from openmae.evaluation.understood import NAMED, NOUNS, Part, Understood, occurring

HELD_OUT = 0.2
QUANTITY = re.compile(r"[-+]?\d+([.,]\d+)?\s?\D{0,3}")
MANY_CLASSES = 10  # from which on fewer than two images a class mean that there are no classes
WHERE_LABELS_COME_FROM: dict[Kind, str] = {
    "class": "put each class into a folder of its own (two folders at least), or give Parquet with a label column",
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
    """The images to train on, those to measure on where there is such a split, and how the data set was understood."""

    train: Split
    test: Split | None
    understood: Understood


def labelled_splits(
    data: Data,
    kind: Kind,
    *,
    fraction: float,
    seed: int,
    hold_out: bool = False,
    split: str | None = None,
    train_split: str | None = None,
) -> Splits:
    """The labelled images to train on, reduced to `fraction` of them, and those to measure on.

    The classes of both are joined by name: the targets of both have the names of the training split.

    Args:
        data: the data set.
        kind: how its labels are read.
        fraction: see `share`.
        seed: decides which images are taken, and held out.
        hold_out: without a split to measure on, take a fifth of the labelled training images for one, by `share`. A
            class of one image stays with the training images.
        split: to measure on; by default test, else val, the first of them that has labels.
        train_split: to train on; by default train.

    Raises:
        UserError: when there is no such split, or the labels are of another kind, or there are none, or they can be no
            classes, or a class is measured that no training image has.
    """
    train_split = _training_split(data, train_split)
    split = _measured_split(data, split, train_split, kind)
    train, train_part = _labelled(data, train_split, kind)
    if not len(train):
        raise UserError(f"these images have no labels to measure with; {WHERE_LABELS_COME_FROM[kind]}")
    if kind == "class":
        require_classes(train.targets)
    test, measured = None, None
    if split is not None:
        test, measured = _labelled(data, split, kind)
        if not len(test):
            raise UserError(
                f"the {split} split has no labels to measure with; label it, or choose another with --split"
            )
        _require_trained(test.targets, train.targets, split)
        test = Split(test.images, test.targets.numbered(train.targets.names))
    elif hold_out:
        held_out = _held_out(train.targets, seed=seed)
        rest = np.setdiff1d(np.arange(len(train)), held_out)
        train, test = train.subset(rest), train.subset(held_out)
    if fraction < 1:
        train = train.subset(share(train.targets, fraction, seed=seed))
    if test is not None:
        measured = replace(train_part if measured is None else measured, targets=test.targets)
    understood = Understood(
        train=replace(train_part, targets=train.targets),
        measured=measured,
        held_out=split is None and test is not None,
        left_out=(*_unused(data, {train_split, split}), *data.left_out),
    )
    return Splits(train, test, understood)


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


def require_classes(targets: Targets) -> None:
    """Raise UserError when a classifier can learn nothing from these classes: all the same, or one for each image."""
    images = np.bincount(targets.values, minlength=len(targets.names))
    names = [targets.names[place] for place in np.flatnonzero(images)]
    if len(names) == 1:
        raise UserError(
            f"all {len(targets):,} labelled images are of the class '{names[0]}'; label images of another class, or "
            "check that these labels are the ones you mean"
        )
    crowded = len(names) >= MANY_CLASSES and 2 * len(names) > len(targets)
    if images.max() > 1 and not crowded:
        return
    found = (
        f"{len(targets):,} labelled images have {len(names):,} classes (such as {names[0]} and {names[-1]}), so that "
        "nearly every image has one of its own"
    )
    if all(_is_number(name) for name in names):
        raise UserError(
            f"{found}; use linear or finetune with --task regression for measured numbers, or give classes that "
            "several images share"
        )
    if all(QUANTITY.fullmatch(name) for name in names):
        raise UserError(
            f"{found}; if they are measured, write them as plain numbers such as 12.5 and use linear or finetune with "
            "--task regression, else give classes that several images share"
        )
    raise UserError(f"{found}; give classes that several images share, not names of images")


def _training_split(data: Data, wanted: str | None) -> str:
    if wanted is not None:
        return _find_split(data, wanted, "--train-split")
    train = data.train
    return next(name for name, source in data.splits.items() if source is train)


def _measured_split(data: Data, wanted: str | None, train: str, kind: Kind) -> str | None:
    """The split to measure on; None when there is none but the one that is trained on."""
    if wanted is not None:
        split = _find_split(data, wanted, "--split")
        if split == train:
            others = [name for name in data.splits if name != train]
            other = f"choose --split {' or '.join(others)}" if others else "leave --split out"
            raise UserError(f"--split {wanted} would measure on the images that are trained on; {other}")
        return split
    candidates = [name for name in ("test", "val") if name in data.splits and name != train]
    labelled = (name for name in candidates if data.splits[name].targets(kind).known.any())
    return next(labelled, candidates[0] if candidates else None)


def _find_split(data: Data, wanted: str, flag: str) -> str:
    """The name of a split, which may be given as the data set calls it: "validation" for "val"."""
    same = [name for name in data.splits if name.lower() == wanted.lower()]
    for name in (wanted, *same, split_of_folder(wanted)):
        if name is not None and name in data.splits:
            return name
    raise UserError(f"these data have no split '{wanted}'; give {flag} one of {', '.join(data.splits)}")


def _labelled(data: Data, split: str, kind: Kind) -> tuple[Split, Part]:
    """The labelled images of a split, and what is to be said about them."""
    source = data.splits[split]
    targets = source.targets(kind)
    whole = Split(source, targets)
    labelled = whole if targets.known.all() else whole.subset(np.flatnonzero(targets.known))
    without = np.flatnonzero(~targets.known)
    names = tuple(source.name(int(image)) for image in without[:NAMED])
    if len(data.splits) > 1:
        names = tuple(name if ":" in name or name.startswith(f"{split}/") else f"{split}/{name}" for name in names)
    part = Part(
        split=split,
        targets=labelled.targets,
        labelled=len(labelled),
        unlabelled=names,
        without_label=len(without),
    )
    return labelled, part


def _unused(data: Data, used: set[str | None]) -> list[LeftOut]:
    """The splits that are neither trained nor measured on."""
    return [
        LeftOut(
            f"{name}/" if isinstance(source, FolderSource) else name,
            len(source),
            "neither trained nor measured on; --split and --train-split choose",
        )
        for name, source in data.splits.items()
        if name not in used
    ]


def _require_trained(test: Targets, train: Targets, split: str) -> None:
    """Raise UserError when a measured image has a class, or a label, that no training image has."""
    if train.kind == "number":
        return
    strange = sorted(set(occurring(test)).difference(occurring(train)), key=test.names.index)
    if not strange:
        return
    values = test.values if test.kind == "labels" else test.values[:, None] == np.arange(len(test.names))
    counts = {name: int(values[:, test.names.index(name)].sum()) for name in strange}
    images = int(values[:, [test.names.index(name) for name in strange]].any(axis=1).sum())
    noun, nouns = NOUNS[test.kind]
    which = (
        f"the {noun} '{strange[0]}'"
        if len(strange) == 1
        else f"{len(strange):,} {nouns} ({', '.join(f'{name}: {counts[name]:,}' for name in strange[:NAMED])}"
        + (", …)" if len(strange) > NAMED else ")")
    )
    verb = "have" if test.kind == "labels" else "are of"
    absent = "; leave the label empty where -1 means that there is none" if "-1" in strange else ""
    raise UserError(
        f"{images:,} of {len(test):,} images of {split} {verb} {which}, which no training image has; add such images "
        f"to the training split, or take these out of {split}{absent}"
    )


def _held_out(targets: Targets, *, seed: int) -> NDArray[np.int64]:
    """A fifth of the images, without those that are the only one of their class."""
    drawn = share(targets, HELD_OUT, seed=seed)
    if targets.kind == "class":
        drawn = drawn[np.bincount(targets.values)[targets.values[drawn]] > 1]
    return drawn


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
