"""How many images the steps of a trial take: as many as the time that it has and the memory permit."""

import gc
import time
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from openmae.recipes import PretrainRecipe
from openmae.training.memory import cost_of, memory_at_hand, memory_of
from openmae.training.noise_step import fresh_network, noise_step
from openmae.training.processes.devices import choose_precision


class Size(NamedTuple):
    """How many images the steps of the trial take, and whether there is memory for as many as were wanted."""

    images: int
    fits: bool


def find_size(fabric: Fabric, recipe: PretrainRecipe, *, wanted: int, longest: float) -> Size:
    """As many images as a step can take in `longest` seconds, at most those wanted; tried on noise."""
    precision, gpu = choose_precision(recipe), fabric.device.type == "cuda"
    memory = memory_of(recipe, cost_of(recipe, precision), precision=precision, gpu=gpu)
    room = memory.most_images(memory_at_hand())
    # A GPU says when its memory is full. Where no GPU does, the system may kill the process.
    most = wanted if gpu else max(recipe.repeats, min(wanted, room // recipe.repeats * recipe.repeats))
    images, is_full = _try_sizes(fabric, recipe, most=most, longest=longest)
    if gpu:
        gc.collect()
        torch.cuda.empty_cache()
    return Size(images, fits=not is_full and (room >= wanted or (gpu and images == wanted)))


def _try_sizes(fabric: Fabric, recipe: PretrainRecipe, *, most: int, longest: float) -> tuple[int, bool]:
    """The largest number of images whose step takes no longer than that, and whether memory ended the search."""
    model = fresh_network(fabric, recipe)

    def step_seconds(images: int) -> float:
        started = time.perf_counter()
        noise_step(fabric, recipe, model, images)
        wait_for(fabric)
        return time.perf_counter() - started

    images = recipe.repeats
    step_seconds(images)  # the first is slow
    while images < most and 2 * step_seconds(images) < longest:
        larger = min(2 * images, most)
        try:
            step_seconds(larger)
        except torch.cuda.OutOfMemoryError:
            return images, True
        images = larger
    return images, False


def wait_for(fabric: Fabric) -> None:
    """Return when the device has done all that it was asked to do."""
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
