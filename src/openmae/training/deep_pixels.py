"""Weights used on images of another type than they were trained on: both must mean the same brightness."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np

from openmae.core.network import Network
from openmae.data.decoding import LARGEST, BadImage, OpenedImage, PixelFormat, PixelType, Reading, open_image
from openmae.data.sources import Source
from openmae.data.statistics import sample, widest_type
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.values import PixelRange
from openmae.reporter import say
from openmae.training.pixels import adopt_pixels, reading_of

R = TypeVar("R", bound=Recipe)
SAMPLE = 32
WORDS: dict[PixelType, str] = {"uint8": "8-bit", "uint16": "16-bit", "float32": "floating-point"}


def network_for(
    network: Network, encoded: Iterable[bytes], reading: Reading, *, pixel_range: PixelRange | None = None
) -> Network:
    """`network` as it takes these images, in the brightness that it was trained on; what was converted is said.

    For weights of 8-bit images: of 16-bit images the white is the largest number of the bits in use (4095 for 12
    bits), of floating-point images in 0 … 1 it is 1. For weights of 16-bit images the white of 8-bit ones is theirs.
    That is the same for every part of a data set.

    Args:
        network: of the weights.
        encoded: a sample of the images.
        reading: how files are read.
        pixel_range: the numbers in the images that are black and white; when not given, as above.

    Raises:
        UserError: when nobody can know which of their numbers are black and white.
    """
    if not network.mean:
        return network
    opened = list(_opened(encoded, reading))
    kind = widest_type(Counter(image.stored for image in opened))
    if pixel_range is None:
        if kind == network.pixel_type or not opened:
            return network
        pixel_range = _found_range(network, opened, kind)
    low, high = pixel_range
    if low >= high:
        raise UserError(f"--pixel-range is {low:g} {high:g}; give the number of black, then the larger one of white")
    unit = LARGEST[kind]
    mean = tuple((low + (high - low) * value) / unit for value in network.mean)
    std = tuple((high - low) * value / unit for value in network.std)
    return replace(network, pixel_type=kind, mean=mean, std=std)


def _found_range(network: Network, opened: Sequence[OpenedImage], kind: PixelType) -> PixelRange:
    """Black and white of images of another type than those that the weights were trained on; it is said."""
    trained = f"the weights were trained on {WORDS[network.pixel_type]} images"
    lowest, highest = _extremes(opened, PixelFormat(network.channels, kind))
    if network.pixel_type == "float32":
        raise UserError(
            f"{trained}, and these are {WORDS[kind]} ones; give --pixel-range and the numbers in them that stand for "
            "0 and 1 in those"
        )
    if kind == "float32":
        if lowest < 0 or highest > 1:
            raise UserError(
                f"{trained}, and these are floating-point numbers from {lowest:.3g} to {highest:.3g}; give "
                "--pixel-range and the numbers that are black and white"
            )
        found, white = "floating-point numbers in 0 … 1", 1
    elif kind == "uint16":
        bits = max(8, int(highest).bit_length())
        found, white = f"16-bit ones with {bits} bits in use", 2**bits - 1
    else:
        found, white = "8-bit ones", LARGEST[kind]
    say(f"{trained} and these are {found}: {white:,} is taken for white (--pixel-range sets black and white)")
    return 0, white


def network_for_sources(
    network: Network, sources: Sequence[Source], reading: Reading, *, pixel_range: PixelRange | None = None
) -> Network:
    """As `network_for`, for data sets that are used together."""
    return network_for(
        network, (data for source in sources for data in _sample(source)), reading, pixel_range=pixel_range
    )


def adopt_from(recipe: R, network: Network, source: Source) -> R:
    """As `adopt_pixels`, for images of another type than those that the weights were trained on."""
    if recipe.channels != network.channels or (recipe.pixel_type == "uint8" and recipe.pixel_range is None):
        return adopt_pixels(recipe, network)
    if recipe.normalize == "from-data":
        return recipe if network.pixel_type == "uint8" else adopt_pixels(recipe, network)  # the images decide
    reading = reading_before_adopting(recipe, network)
    return adopt_pixels(recipe, network_for_sources(network, [source], reading, pixel_range=recipe.pixel_range))


def reading_before_adopting(recipe: Recipe, network: Network) -> Reading:
    """How files are read for a recipe that will adopt what it leaves open from the network of weights."""
    pages = network.pages if recipe.pages == "auto" else None
    nodata = network.nodata if recipe.nodata == "auto" and recipe.channels == network.channels else None
    return reading_of(recipe, pages=pages, nodata=nodata)


def _sample(source: Source) -> Iterator[bytes]:
    for index in sample(len(source), SAMPLE):
        with suppress(OSError):
            yield source.read(index)


def _opened(encoded: Iterable[bytes], reading: Reading) -> Iterator[OpenedImage]:
    for data in encoded:
        with suppress(BadImage):
            yield open_image(data, reading)


def _extremes(images: Sequence[OpenedImage], wanted: PixelFormat) -> tuple[float, float]:
    """The smallest and the largest number of the images that can be decoded so; 0 and full brightness without any."""
    lows, highs = [], []
    for image in images:
        with suppress(BadImage):
            pixels = image.decode(wanted)
            lows.append(float(np.nanmin(pixels)))
            highs.append(float(np.nanmax(pixels)))
    return min(lows, default=0.0), max(highs, default=float(LARGEST[wanted.kind]))
