"""What is known to fail, or to waste time, in a planned pre-training: a sentence with a number, and a remedy."""

import statistics
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, TypedDict

from openmae.core.geometry import size_text
from openmae.data.decoding import BadImage, Reading, open_image
from openmae.data.sources import Source
from openmae.data.statistics import sample
from openmae.recipes import PretrainRecipe
from openmae.recipes.warmup import LONGEST_SHARE
from openmae.weights.networks import network_of

SIZES_SAMPLE = 64
SMALL_PATCH, LARGE_IMAGE = 16, 448
ABSOLUTE_RATE = 1e-3
"""Published base rates of AdamW are 1.5e-4; one above this was meant as the rate itself."""
USUAL_BATCH = 256
ENLARGED = 0.6
"""Images whose short side is below this share of the image size are mostly interpolated pixels."""
FEW_STEPS = 1000
Kind = Literal["fp16", "rate", "enlarged", "warm-up", "batch", "steps", "memory"]


class Caution(TypedDict):
    """A warning: its kind, and one sentence on what is wrong and one on what to do, joined by a semicolon."""

    kind: Kind
    message: str


class Planned(NamedTuple):
    """The run that cautions are about.

    Args:
        asked: the recipe as the user gave it.
        recipe: with a batch that the images fill.
        images: how many there are; None when that is not known.
        short_side: the median of the images; None when it is not known.
    """

    asked: PretrainRecipe
    recipe: PretrainRecipe
    images: int | None
    short_side: int | None


def cautions(run: Planned) -> list[Caution]:
    """Every caution about a run, but for its memory."""
    found = (_half_precision, _rate, _enlarged, _warmup, _batch, _steps)
    return [{"kind": kind, "message": message} for one in found for kind, message in one(run)]


def median_short_side(source: Source, reading: Reading) -> int | None:
    """The median of the short sides of a sample of the images, in pixels; None when none of them can be read."""
    sides = []
    for index in sample(len(source), SIZES_SAMPLE):
        with suppress(BadImage, OSError):
            image = open_image(source.read(index), reading)
            sides.append(min(image.height, image.width))
    return int(statistics.median(sides)) if sides else None


def _half_precision(run: Planned) -> Iterator[tuple[Kind, str]]:
    patch, side = min(network_of(run.recipe).geometry.patch), max(run.recipe.image_size)
    if run.recipe.precision != "16-mixed" or (patch >= SMALL_PATCH and side < LARGE_IMAGE):
        return
    why = f"patches of {patch} pixels" if patch < SMALL_PATCH else f"images of {side} pixels"
    yield "fp16", f"fp16 with {why} ends in NaN for many users; use --precision bf16-mixed, or 32-true"


def _rate(run: Planned) -> Iterator[tuple[Kind, str]]:
    recipe = run.recipe
    if recipe.optimizer != "adamw" or recipe.base_lr < ABSOLUTE_RATE:
        return
    few = f", and {recipe.batch_size} images are few for it" if recipe.batch_size < USUAL_BATCH else ""
    yield (
        "rate",
        f"--base-lr {recipe.base_lr:g} looks like a rate for one batch size, as OpenMMLab's files name it{few}, while "
        f"ours is for 256 images: with {recipe.batch_size} it becomes {recipe.lr:.3g}; the published one is --base-lr "
        "1.5e-4",
    )


def _enlarged(run: Planned) -> Iterator[tuple[Kind, str]]:
    side = min(run.recipe.image_size)
    if run.short_side is None or run.short_side >= ENLARGED * side:
        return
    patch = max(2, 2 ** (max(1, run.short_side // 8).bit_length() - 1))
    fitting = max(patch * 2, run.short_side // patch * patch)
    yield (
        "enlarged",
        f"half of the images have {run.short_side} pixels or fewer and are enlarged to "
        f"{size_text(run.recipe.image_size)}, which costs {(side / run.short_side) ** 2:.0f} times the pixels and adds "
        f"nothing; use --image-size {fitting} --patch-size {patch}, or the recipe cifar10",
    )


def _warmup(run: Planned) -> Iterator[tuple[Kind, str]]:
    recipe = run.recipe
    if recipe.warmup_epochs <= LONGEST_SHARE * recipe.epochs:
        return
    whole = "the rate never comes down" if recipe.warmup_epochs >= recipe.epochs else "little is left to learn in"
    yield (
        "warm-up",
        f"the warm-up takes {recipe.warmup_epochs:g} of {recipe.epochs} epochs: {whole}; use --warmup-epochs "
        f"{recipe.epochs / 10:g}",
    )


def _batch(run: Planned) -> Iterator[tuple[Kind, str]]:
    if run.images is None or run.asked.batch_size == run.recipe.batch_size:
        return
    samples = run.images * run.recipe.repeats
    fitting = max(1, 2 ** (max(1, samples // 8).bit_length() - 1))
    yield (
        "batch",
        f"{samples:,} images do not fill a batch of {run.asked.batch_size:,}: each epoch would be one step; use "
        f"--batch-size {fitting}",
    )


def _steps(run: Planned) -> Iterator[tuple[Kind, str]]:
    if run.images is None:
        return
    steps = run.recipe.epochs * (run.images * run.recipe.repeats // run.recipe.batch_size)
    if steps < FEW_STEPS:
        yield (
            "steps",
            f"the whole run makes {steps:,} steps, and published ones make 24,000 and more; use more --epochs or a "
            "smaller --batch-size",
        )
