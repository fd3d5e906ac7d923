"""Estimates from a sample of the images: how their pixels are stored, their mean and deviation, their size."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmae.data.decoding import (
    AS_USUAL,
    LARGEST,
    BadImage,
    PixelFormat,
    Pixels,
    PixelType,
    Reading,
    open_image,
    why_unreadable,
)
from openmae.data.sources import JoinedSource, ShardSource, Source
from openmae.data.transforms import Box, Crop, Transform
from openmae.errors import UserError

FORMAT_SAMPLE = 64
STATISTICS_SAMPLE = 512


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, of pixels in 0 … 1 (floats as they are)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class RunningStatistics:
    """The sums for mean and deviation. Every image has the same weight, whatever its size."""

    def __init__(self, channels: int) -> None:
        self.images = 0
        self._sum = np.zeros(channels)
        self._squares = np.zeros(channels)

    def add(self, pixels: Pixels) -> None:
        """Count one image [H, W, C]."""
        flat = pixels.reshape(-1, pixels.shape[2])
        scale = 1 / LARGEST[pixels.dtype.name]
        self.images += 1
        self._sum += flat.mean(axis=0, dtype=np.float64) * scale
        self._squares += np.square(flat, dtype=np.float64).mean(axis=0) * scale**2

    def result(self) -> Statistics:
        """Mean and deviation of the images so far, of which there must be one. A constant channel gets deviation 1."""
        mean = self._sum / self.images
        std = np.sqrt(np.maximum(self._squares / self.images - mean**2, 0))
        std[std < 1e-7] = 1
        # Rounded, so that a recipe is readable and the same on every machine.
        return Statistics(*(tuple(float(f"{value:.5g}") for value in row) for row in (mean, std)))


def stored_formats(source: Source, reading: Reading = AS_USUAL) -> Counter[PixelFormat]:
    """How the pixels of a sample are stored, by the headers of its images; unreadable images are left out."""
    formats: Counter[PixelFormat] = Counter()
    for index in sample(len(source), FORMAT_SAMPLE):
        try:
            formats[open_image(source.read(index), reading).stored] += 1
        except (BadImage, OSError):
            continue
    return formats


def widest_type(formats: Counter[PixelFormat]) -> PixelType:
    """uint16 for a mixture of uint8 and uint16, else the commonest type; uint8 without images."""
    kinds: Counter[PixelType] = Counter()
    for format_, count in formats.items():
        kinds[format_.kind] += count
    if not kinds:
        return "uint8"
    return "uint16" if set(kinds) == {"uint8", "uint16"} else kinds.most_common(1)[0][0]


def noted_statistics(source: Source, wanted: PixelFormat) -> Statistics | None:
    """The statistics in packed.json; None when the source is no packed set, or one of another format."""
    notes = source.packed if isinstance(source, ShardSource | JoinedSource) else None
    if notes is None or notes.mean is None or notes.std is None or notes.format != wanted:
        return None
    return Statistics(notes.mean, notes.std)


def measure(source: Source, wanted: PixelFormat, reading: Reading = AS_USUAL) -> Statistics:
    """Mean and deviation of a sample of the images.

    Raises:
        UserError: when none of the sample can be decoded in that format.
    """
    running = RunningStatistics(wanted.channels)
    why = "there are none"
    for index in sample(len(source), STATISTICS_SAMPLE):
        try:
            running.add(open_image(source.read(index), reading).decode(wanted))
        except (BadImage, OSError) as error:
            why = f"{source.name(index)}: {why_unreadable(error)}"
    if not running.images:
        raise UserError(
            f"none of the images can be read as {wanted.channels} channels of {wanted.kind} ({why}); set --channels "
            "and --pixel-type to those of the images, which `openmae check` shows"
        )
    return running.result()


def decoded_bytes(source: Source, wanted: PixelFormat, transform: Transform, reading: Reading = AS_USUAL) -> float:
    """Mean bytes of a decoded image, by the headers of a sample; infinite when most can be decoded smaller."""
    sizes, shrunk = [], 0
    for index in sample(len(source), FORMAT_SAMPLE):
        try:
            image = open_image(source.read(index), reading)
        except (BadImage, OSError):
            continue
        shrunk += image.shrinks and transform.shrink(Crop(Box(0, 0, image.width, image.height))) > 1
        sizes.append(image.height * image.width * wanted.channels * np.dtype(wanted.kind).itemsize)
    return float(np.mean(sizes)) if 2 * shrunk < len(sizes) else math.inf


def sample(images: int, most: int) -> Sequence[int]:
    """Indices spread evenly over all images.

    >>> sample(10, 4), sample(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    places: NDArray[np.int64] = np.linspace(0, images - 1, min(images, most)).round().astype(np.int64)
    return [int(place) for place in places]


def why_unreadable_as(source: Source, wanted: PixelFormat, reading: Reading = AS_USUAL) -> Iterator[str]:
    """For each image of a small sample: why it cannot be read in that format, or an empty string when it can."""
    for index in sample(len(source), 8):
        try:
            open_image(source.read(index), reading).decode(wanted)
            yield ""
        except (BadImage, OSError) as error:
            yield f"{source.name(index)}: {why_unreadable(error)}"
