"""A look at the first images of a run: constant ones, copies, statistics, and the loss that is trivial on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import monotonic
from typing import NamedTuple

import torch
from torch import Tensor

from openmae.core.geometry import Geometry
from openmae.core.patches import normalise_patches
from openmae.data.batches import Batch, SeededImages
from openmae.data.decoding import BadImage
from openmae.data.transforms import normalise_pixels

# Of so many images a share is known to a few per cent; large images are fewer, for the sake of time and memory.
IMAGES, NUMBERS = 256, 1 << 23
# Fewer tell too little: a mean of them, or a loss, is noise.
FEWEST = 16
# Bytes are read for no longer than this, in seconds: storage may be slow.
READING = 1.0

# A trivial loss below this is that of constant images, to which no other loss can be compared.
SMALLEST_TRIVIAL = 1e-3


class FirstImages(NamedTuple):
    """What was found in the first images of a run.

    Args:
        images: how many were looked at.
        constant: how many of them have one value in all pixels of each channel.
        compared: how many images were compared, byte by byte or pixel by pixel.
        duplicates: how many of these have an equal one before them.
        mean: of each channel after normalisation, without the constant images; () when all are constant.
        std: likewise.
        trivial: the loss of predicting the mean of the other images; None when there is no such loss, it is next to 0,
            or most images are constant: predicting those is no task.
    """

    images: int
    constant: int
    compared: int
    duplicates: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trivial: float | None


@dataclass
class Collected:
    """The first images that a process has received, each once."""

    images: list[Tensor] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    numbers: int = 0

    @property
    def full(self) -> bool:
        return len(self.images) >= IMAGES or self.numbers >= NUMBERS

    def add(self, batch: Batch) -> None:
        """Take of the batch what is new, until there is enough."""
        known = set(self.indices)
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            if self.full:
                return
            if index not in known:
                known.add(index)
                self.images.append(image.clone())  # a view would keep its whole batch in memory
                self.indices.append(index)
                self.numbers += image.numel()


def look(
    collected: Collected,
    dataset: SeededImages,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    geometry: Geometry | None,
    normalised: bool,
) -> FirstImages | None:
    """Look at the first images; None when there are too few.

    Args:
        collected: the images, as the loader makes them.
        dataset: where they come from.
        mean: of each channel, by which they are normalised.
        std: likewise.
        geometry: the patches whose pixels are predicted; None when no pixels are.
        normalised: whether the targets are normalised per patch.
    """
    if len(collected.images) < FEWEST:
        return None
    pixels = torch.stack(collected.images)
    flat = pixels.flatten(2).float()
    constant = (flat.amax(dim=2) == flat.amin(dim=2)).all(dim=1)  # NaN, no data, equals nothing
    images = normalise_pixels(pixels, mean, std)
    varied = images[~constant].transpose(0, 1).flatten(1)
    of_varied = [
        index for index, is_constant in zip(collected.indices, constant.tolist(), strict=True) if not is_constant
    ]
    compared, duplicates = _duplicates(of_varied, dataset)
    trivial = None
    if geometry is not None and 2 * int(constant.sum()) < len(images):
        trivial = trivial_loss(images[~constant], geometry, normalised=normalised)
    return FirstImages(
        images=len(images),
        constant=int(constant.sum()),
        compared=compared,
        duplicates=duplicates,
        mean=tuple(varied.mean(dim=1).tolist()) if varied.numel() else (),
        std=tuple(varied.std(dim=1).tolist()) if varied.numel() else (),
        trivial=trivial,
    )


def trivial_loss(images: Tensor, geometry: Geometry, *, normalised: bool) -> float | None:
    """The loss of predicting for each pixel of each patch the mean over all images; None when it is next to 0.

    Args:
        images: [B, C, H, W], normalised by the statistics of the data set.
        geometry: of the patches.
        normalised: whether the targets are normalised per patch.
    """
    target_BLP = geometry.patchify(images)
    if normalised:
        target_BLP = normalise_patches(target_BLP)
    loss = float(target_BLP.var(dim=0).mean())  # unbiased: as on images that the mean was not made of
    return loss if loss >= SMALLEST_TRIVIAL else None


def _duplicates(indices: Sequence[int], dataset: SeededImages) -> tuple[int, int]:
    """How many of these images were compared, and how many have an equal one before them.

    Decoded images in memory are compared by their pixels, others by their bytes.
    """
    digests: Counter[bytes] = Counter()
    began = monotonic()
    for index in indices:
        pixels = None if dataset.cache is None else dataset.cache.get(index)
        if pixels is not None:
            content = str(pixels.shape).encode() + pixels.tobytes()
        elif monotonic() - began > READING:
            break
        else:
            try:
                content = dataset.source.read(index)
            except (BadImage, OSError):  # listed elsewhere
                continue
        digests[blake2b(content, digest_size=16).digest()] += 1
    return digests.total(), digests.total() - len(digests)
