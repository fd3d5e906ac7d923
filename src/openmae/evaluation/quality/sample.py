"""The images that quality is measured on: chosen by the seed, read once, the same for the whole run."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmae.data.batches import SeededImages
from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import UNLABELLED, Data, Source, Subset
from openmae.data.sources.data_set import has_labels
from openmae.data.sources.split_names import is_held_out
from openmae.data.sources.taking import Taken
from openmae.errors import UserError
from openmae.evaluation.quality.often import BANK
from openmae.evaluation.splits import Split, balanced_subset, labelled_splits


class Bank(NamedTuple):
    """Labelled training images, [M, C, H, W], and their classes [M], of so many."""

    pixels: Tensor
    labels: NDArray[np.int64]
    classes: int


class Sample(NamedTuple):
    """What quality is measured on.

    Args:
        pixels: [N, C, H, W] as the loader gives them.
        uniform: [N, L] random numbers, of which the masks are made.
        labels: [N], the classes of those that the bank classifies, -1 for all others.
        split: the split that the images are from.
        held_out: whether nothing is trained on it.
        bank: None where there are no labels.
    """

    pixels: Tensor
    uniform: Tensor
    labels: NDArray[np.int64]
    split: str
    held_out: bool
    bank: Bank | None

    def describe(self) -> str:
        """ "200 images of test, which is held out; classes by 400 labelled training images"."""
        where = "which is held out" if self.held_out else "which is trained on: nothing is held out"
        labels = "no labels"
        if self.bank is not None:
            labels = f"classes by {len(self.bank.labels):,} labelled training images"
        return f"{len(self.pixels):,} images of {self.split}, {where}; {labels}"


def take_sample(taken: Taken, loading: SeededImages, *, images: int, seed: int) -> Sample | None:
    """Choose and read the sample; None when none of its images can be read.

    The images are of the split that is held out for measuring: val, else test, the first of them that has labels.
    Without one they are of the training images. Labelled ones go first; those that cannot be read are passed over. The
    mask of an image depends on the seed and its place in the split.

    Args:
        taken: the data set, and the splits of it that are trained on.
        loading: how an image is read, and how many patches it has; its source is not used.
        images: how many at most.
        seed: of everything random.
    """
    split = _held_out_split(taken)
    source = taken.images if split is None else taken.data.splits[split]
    train, measured = _labelled(taken.data, split, seed=seed)
    labels = np.full(len(source), UNLABELLED, dtype=np.int64)
    if measured is not None:
        labels[_places(measured)] = measured.targets.values
    order = random_stream(seed, Stream.SUBSET).permutation(len(source))
    order = order[np.argsort(labels[order] == UNLABELLED, kind="stable")]
    pixels, places = _read(loading, source, order, images)
    if pixels is None:
        return None
    noise = [
        random_stream(seed, Stream.QUALITY, index=int(place)).random(loading.uniform, dtype=np.float32)
        for place in places
    ]
    return Sample(
        pixels=pixels,
        uniform=torch.from_numpy(np.stack(noise)),
        labels=labels[places],
        split=" and ".join(taken.splits) if split is None else split,
        held_out=split is not None,
        bank=None if train is None else _bank(loading, train, BANK * images, seed=seed),
    )


def _held_out_split(taken: Taken) -> str | None:
    """The split to measure on; None when there is none that nothing is trained on."""
    rest = [split for split in taken.data.splits if split not in taken.splits and is_held_out(split)]
    rest = [split for split in rest if len(taken.data.splits[split])]
    return next((split for split in rest if has_labels(taken.data.splits[split])), rest[0] if rest else None)


def _labelled(data: Data, split: str | None, *, seed: int) -> tuple[Split | None, Split | None]:
    """The labelled training images, and those of the split; None where there are none, or none that are classes."""
    if split is not None:
        try:
            train, measured, _ = labelled_splits(data, "class", fraction=1.0, seed=seed, split=split)
        except UserError:
            pass
        else:
            return train, measured
    try:
        train, _, _ = labelled_splits(Data(splits={"train": data.train}), "class", fraction=1.0, seed=seed)
    except UserError:
        return None, None
    return train, None


def _places(split: Split) -> NDArray[np.int64]:
    """The places of labelled images in the split of the data set that they are from."""
    return split.images.indices if isinstance(split.images, Subset) else np.arange(len(split.images))


def _bank(loading: SeededImages, train: Split, images: int, *, seed: int) -> Bank | None:
    """So many labelled images, of each class the same share; None when fewer than two can be read."""
    labels = train.targets.values
    chosen = balanced_subset(labels, min(1.0, images / len(labels)), seed=seed)
    chosen = random_stream(seed, Stream.SUBSET).permutation(chosen)
    pixels, places = _read(loading, train.images, chosen, images)
    if pixels is None or len(places) < 2:
        return None
    return Bank(pixels, labels[places], len(train.targets.names))


def _read(
    loading: SeededImages, source: Source, order: Iterable[int], images: int
) -> tuple[Tensor | None, NDArray[np.int64]]:
    """The first so many images in this order that can be read, and their places; no pixels when there are none."""
    opened = SeededImages(
        source=source, transform=loading.transform, format=loading.format, reading=loading.reading, replace_bad=False
    )
    # After twice as many, most are unreadable, and the training is about to end for that reason.
    views = ((int(place), opened[0, int(place)].views) for place in islice(order, 2 * images))
    found = list(islice(((place, view[0]) for place, view in views if view), images))
    if not found:
        return None, np.empty(0, dtype=np.int64)
    pixels = torch.from_numpy(np.stack([view for _, view in found])).permute(0, 3, 1, 2)
    return pixels, np.array([place for place, _ in found], dtype=np.int64)
