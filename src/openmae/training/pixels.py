"""Type and statistics of the pixels that the network receives: found in the data, kept in the recipe."""

import os
from dataclasses import replace
from typing import TypeVar

from openmae.core.network import Network
from openmae.data.decoding import MAX_PIXELS, Nodata, Pages, PixelFormat, Reading
from openmae.data.nodata import find_far_value
from openmae.data.pixel_cache import PixelCache, pixel_cache_bytes
from openmae.data.sources import Source
from openmae.data.statistics import (
    decoded_bytes,
    measure,
    noted_statistics,
    stored_formats,
    why_unreadable_as,
    widest_type,
)
from openmae.data.transforms import Transform
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.reporter import say

R = TypeVar("R", bound=Recipe)
# The sizes of all images are guessed from a sample.
MARGIN = 1.1


def pixel_format(trained: Recipe | Network) -> PixelFormat:
    """Channels and type of the pixels; a recipe that leaves the type to the images means bytes."""
    return PixelFormat(trained.channels, "uint8" if trained.pixel_type == "auto" else trained.pixel_type)


def reading_of(
    trained: Recipe | Network,
    *,
    pages: Pages | None = None,
    nodata: Nodata | None = None,
    max_pixels: int | None = None,
) -> Reading:
    """How files are read for this recipe, or for this network; the other arguments replace its own values."""
    if max_pixels is None:
        max_pixels = trained.max_pixels if isinstance(trained, Recipe) else MAX_PIXELS
    return Reading(
        pages=trained.pages if pages is None else pages,
        nodata=trained.nodata if nodata is None else nodata,
        max_pixels=max_pixels,
        channels=trained.channels,
    )


def resolve_pixels(recipe: R, source: Source) -> R:
    """`recipe` with pixel type and statistics as the images have them, where it leaves them open.

    Raises:
        UserError: when the images have another number of channels than the recipe.
    """
    reading = reading_of(recipe)
    if recipe.pixel_type == "auto":
        recipe = replace(recipe, pixel_type=widest_type(stored_formats(source, reading)))
    if recipe.nodata == "auto" and (recipe.pixel_type == "float32" or recipe.measures_statistics):
        recipe = _with_nodata(recipe, source)
        reading = reading_of(recipe)
    wanted = pixel_format(recipe)
    reasons = list(why_unreadable_as(source, wanted, reading))
    if all(reasons):
        places = recipe.data if isinstance(recipe.data, str) else " ".join(recipe.data or ())
        raise UserError(
            f"the images cannot be read as {wanted.channels} channels of {wanted.kind}, e.g. {reasons[0]}; "
            f"`openmae check {places}` shows what they are, and a command that fits them"
        )
    if recipe.measures_statistics:
        statistics = noted_statistics(source, wanted)
        if statistics is None:
            say("measuring mean and standard deviation on a sample of the images")
            statistics = measure(source, wanted, reading)
        recipe = replace(recipe, mean=statistics.mean, std=statistics.std)
        mean, std = (" ".join(f"{value:.3g}" for value in values) for values in statistics)
        say(f"{wanted.channels} channels of {wanted.kind}, mean {mean}, standard deviation {std}")
    return recipe


def _with_nodata(recipe: R, source: Source) -> R:
    """`recipe` with the value that stands for "no data", where it is certain; else a message names it."""
    found = find_far_value(source, reading_of(recipe))
    if found is None:
        return recipe
    if found.certain and recipe.pixel_type == "float32":
        say(f"{found}: it is taken for no data; --nodata none takes it for data")
        return replace(recipe, nodata=found.value)
    say(f"{found}: if they hold no data, add {found.flag}")
    return recipe


def adopt_pixels(recipe: R, trained: Network) -> R:
    """`recipe` with the pixel type, statistics, pages and nodata of the weights, unless it says otherwise."""
    if recipe.pages == "auto":
        recipe = replace(recipe, pages=trained.pages)
    if recipe.channels != trained.channels:
        return recipe
    if recipe.nodata == "auto":
        recipe = replace(recipe, nodata=trained.nodata)
    if recipe.pixel_type == "auto":
        recipe = replace(recipe, pixel_type=pixel_format(trained).kind)
    if recipe.normalize == "auto" and trained.mean and (recipe.mean, recipe.std) != (trained.mean, trained.std):
        say("normalising as the weights were trained; --normalize recipe takes --mean and --std instead")
        recipe = replace(recipe, mean=trained.mean, std=trained.std)
    return recipe


def hold_pixels(recipe: Recipe, source: Source, transform: Transform) -> PixelCache | None:
    """Room for the decoded images in shared memory, when all of them fit; None when not, or not wanted."""
    if not recipe.hold or recipe.epochs < 2:
        return None
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", recipe.devices))
    needed = MARGIN * decoded_bytes(source, pixel_format(recipe), transform, reading_of(recipe)) * len(source)
    if not 0 < needed <= pixel_cache_bytes(processes):
        return None
    say(f"caching the decoded images in memory ({needed / 2**20:,.0f} MB; --no-hold decodes them anew each epoch)")
    return PixelCache(len(source), int(needed), pixel_format(recipe))
