"""Weights that were trained on 8-bit images, used on deeper ones: the brightness of the images decides the scale."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np

from openmae.core.network import Network
from openmae.data.decoding import LARGEST, BadImage, OpenedImage, PixelFormat, Reading, open_image
from openmae.data.sources import Source
from openmae.data.statistics import sample, widest_type
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.reporter import say
from openmae.training.pixels import adopt_pixels, reading_of

R = TypeVar("R", bound=Recipe)
SAMPLE = 32


def network_for(network: Network, encoded: Iterable[bytes], reading: Reading) -> Network:
    """`network` as it takes these images: deeper than 8 bits ones are brought to the brightness that it was trained on.

    Of 16-bit images the white is the largest number of the bits in use (4095 for 12 bits), of floating-point images in
    0 … 1 it is 1. That is the same for every part of a data set, and it is said.

    Args:
        network: of the weights.
        encoded: a sample of the images.
        reading: how files are read.

    Raises:
        UserError: for floating-point images of any other range: nobody can know what their numbers mean.
    """
    if network.pixel_type != "uint8" or not network.mean:
        return network
    opened = list(_opened(encoded, reading))
    kind = widest_type(Counter(image.stored for image in opened))
    if kind == "uint8":
        return network
    lowest, highest = _range(opened, PixelFormat(network.channels, kind))
    if kind == "uint16":
        bits = max(8, int(highest).bit_length())
        white = 2**bits - 1
        found = f"16-bit ones with {bits} bits in use"
    else:
        white, found = 1, "floating-point numbers in 0 … 1"
        if lowest < 0 or highest > 1:
            raise UserError(
                f"the images are floating-point numbers from {lowest:.3g} to {highest:.3g}, and the weights were "
                "trained on 8-bit images; scale the numbers to 0 … 1, or train with --pixel-type float32 --normalize "
                "from-data"
            )
    say(f"the weights were trained on 8-bit images and these are {found}: {white:,} is taken for white")
    scale = white / LARGEST[kind]
    mean, std = (tuple(scale * value for value in values) for values in (network.mean, network.std))
    return replace(network, pixel_type=kind, mean=mean, std=std)


def network_for_sources(network: Network, sources: Sequence[Source], reading: Reading) -> Network:
    """As `network_for`, for data sets that are used together."""
    return network_for(network, (data for source in sources for data in _sample(source)), reading)


def adopt_from(recipe: R, network: Network, source: Source) -> R:
    """As `adopt_pixels`, for images that may be deeper than those that the weights were trained on."""
    if recipe.channels != network.channels or recipe.pixel_type == "uint8":
        return adopt_pixels(recipe, network)
    if recipe.normalize == "from-data" and network.pixel_type == "uint8":
        return recipe  # the images decide
    return adopt_pixels(recipe, network_for_sources(network, [source], reading_before_adopting(recipe, network)))


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


def _range(images: Sequence[OpenedImage], wanted: PixelFormat) -> tuple[float, float]:
    """The smallest and the largest number of the images that can be decoded so; 0 and full brightness without any."""
    lows, highs = [], []
    for image in images:
        with suppress(BadImage):
            pixels = image.decode(wanted)
            lows.append(float(np.nanmin(pixels)))
            highs.append(float(np.nanmax(pixels)))
    return min(lows, default=0.0), max(highs, default=float(LARGEST[wanted.kind]))
