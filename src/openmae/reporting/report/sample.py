"""Some images of a data set, decoded as a network wants them, with their names and classes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmae.core.network import Network
from openmae.data.batches import BadRecord
from openmae.data.pages import as_images
from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import Data, Source, classes_if_any, open_data
from openmae.data.sources.data_set import has_labels
from openmae.data.sources.taking import for_pretraining
from openmae.data.transforms import normalise_pixels
from openmae.evaluation.forward import evaluation_images
from openmae.evaluation.reconstructing import visible_bands
from openmae.training.deep_pixels import network_for_sources
from openmae.training.pixels import reading_of

SPARE = 1.2
"""So many times the wanted images are tried, because some may be bad."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """N images of one split.

    Args:
        network: how it takes these images.
        pixels: [N, C, H, W], decoded and cropped.
        names: of the images.
        labels: [N] int64 that index `classes`; -1 where there is none.
        classes: the names of the classes; () without labels.
        split: where they are from.
        held_out: whether the training did not use that split.
        total: how many images the split has.
        bad: those that could not be decoded.
    """

    network: Network
    pixels: Tensor
    names: list[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: str
    held_out: bool
    total: int
    bad: list[BadRecord]

    def __len__(self) -> int:
        return len(self.names)

    def normalised(self, part: slice | NDArray[np.int64]) -> Tensor:
        """Some of the images as the network takes them, [B, C, H, W]."""
        return normalise_pixels(self.pixels[part], self.network.mean, self.network.std)

    def visible(self, place: int) -> NDArray[np.uint8]:
        """One image as a screen can show it, [H, W, C] with C of 1 or 3."""
        image = self.pixels[place : place + 1]
        return as_array(visible_bands(image, image.float())[0][0])

    def label(self, place: int) -> str:
        """The name of the class of an image; "" where it has none."""
        label = int(self.labels[place])
        return self.classes[label] if label >= 0 else ""


def as_array(image: Tensor) -> NDArray[np.uint8]:
    """[C, H, W] in 0 … 255 to [H, W, C] uint8."""
    array: NDArray[np.uint8] = image.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    return array


def draw_sample(network: Network, places: str | tuple[str, ...], *, count: int, seed: int) -> Sample:
    """Images drawn with the seed: of the split to measure on where there is one, else of those to train on.

    Raises:
        UserError: when the data cannot be opened, or fit the network in no way.
    """
    reading = reading_of(network)
    data = as_images(open_data(places), reading)
    split, source, held_out = _split(data)
    network = network_for_sources(network, [source], reading)
    images = evaluation_images(network, source, reading=reading)
    targets = classes_if_any(source)
    order = random_stream(seed, Stream.SUBSET).permutation(len(source))[: round(count * SPARE)]
    views, chosen, bad = list[Tensor](), list[int](), list[BadRecord]()
    for index in map(int, order):
        if len(views) == count:
            break
        sample = images[0, index]
        bad += sample.bad
        if sample.views:
            views.append(torch.from_numpy(np.array(sample.views[0])).permute(2, 0, 1))
            chosen.append(index)
    labelled = bool(targets.known.any()) and len(targets.names) > 1
    places_of = np.array(chosen, dtype=np.int64)
    return Sample(
        network=network,
        pixels=torch.stack(views) if views else torch.empty(0),
        names=[source.name(index) for index in chosen],
        labels=np.where(targets.known, targets.values, -1)[places_of] if labelled else np.full(len(chosen), -1),
        classes=targets.names if labelled else (),
        split=split,
        held_out=held_out,
        total=len(source),
        bad=bad,
    )


def _split(data: Data) -> tuple[str, Source, bool]:
    """The name and the images of the split to show, and whether the training did not see it."""
    test = data.test
    if test is not None and (has_labels(test) or not has_labels(data.train)):
        return next(name for name, source in data.splits.items() if source is test), test, True
    taken = for_pretraining(data)
    return taken.splits[0], data.splits[taken.splits[0]], False
