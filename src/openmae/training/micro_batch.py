"""`--batch-size auto`: the recipe's batch, in as few accumulation steps as memory permits."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from openmae.core.cost import Cost
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.reporter import say
from openmae.training.continuing import recorded_recipe
from openmae.training.memory import cost_of, memory_at_hand, memory_of
from openmae.training.noise_step import fresh_network, noise_step
from openmae.training.optimizers import build_optimizer
from openmae.training.processes.devices import Precision, choose_precision

SHARE_OF_GPU = 0.95
"""The part of a GPU's memory that a trial may fill: the rest is for what a longer run fragments."""


class Division(NamedTuple):
    """A batch in `accumulate` steps, in each of which every device takes `images` at once."""

    accumulate: int
    images: int


def fit_accumulation(fabric: Fabric, path: Path, recipe: PretrainRecipe) -> PretrainRecipe:
    """`recipe` in as few accumulation steps as memory permits; every process must call this together.

    A run that goes on keeps the steps that it began with: with others it would be another run. On GPUs the numbers are
    tried, from the fewest steps on; on a CPU, and where fsdp shares out the network, memory is reckoned.

    Args:
        fabric: the processes.
        path: the run folder.
        recipe: its batch is kept.

    Raises:
        UserError: when there is no memory for one image at a time.
    """
    recorded = recorded_recipe(path) if fabric.is_global_zero else None
    kept = fabric.broadcast(0 if recorded is None else recorded.accumulate)
    if kept:
        return replace(recipe, accumulate=kept)
    choices = divisions(recipe.batch_size, processes=fabric.world_size, repeats=recipe.repeats)
    tries = fabric.device.type == "cuda" and recipe.strategy != "fsdp"
    fits = _trial(fabric, recipe) if tries else _arithmetic(fabric, recipe)
    own = next((choice.accumulate for choice in choices if fits(choice)), 0)
    found = torch.tensor(own or choices[-1].accumulate + 1, device=fabric.device)
    fabric.all_reduce(found, reduce_op="max")  # in place
    accumulate = int(found)
    if accumulate > choices[-1].accumulate:
        raise UserError(
            f"there is no memory to train {recipe.backbone} on even {choices[-1].images} images at a time; use a "
            "smaller backbone, or a GPU with more memory"
        )
    images = recipe.batch_size // (accumulate * fabric.world_size)
    say(
        f"a batch of {recipe.batch_size} is taken whole: it fits into memory"
        if accumulate * fabric.world_size == 1
        else f"a batch of {recipe.batch_size} is taken {images} images at a time on each device (--accumulate "
        f"{accumulate}), which fit into memory"
    )
    return replace(recipe, accumulate=accumulate)


def divisions(batch: int, *, processes: int, repeats: int) -> list[Division]:
    """Every way to divide a batch among processes and accumulation steps, the one with the fewest steps first.

    Raises:
        UserError: when the processes cannot share the batch.

    >>> divisions(12, processes=2, repeats=1)[:3]
    [Division(accumulate=1, images=6), Division(accumulate=2, images=3), Division(accumulate=3, images=2)]
    """
    parts = processes * repeats
    if batch % parts:
        raise UserError(
            f"a batch of {batch} cannot be shared by {processes} devices{f' with {repeats} repeats' * (repeats > 1)}; "
            f"use --batch-size {max(1, batch // parts) * parts}"
        )
    share = batch // parts
    return [Division(steps, share // steps * repeats) for steps in range(1, share + 1) if share % steps == 0]


def fits_by_arithmetic(
    recipe: PretrainRecipe, cost: Cost, *, precision: Precision, processes: int, available: int, gpu: bool
) -> Callable[[Division], bool]:
    """Whether a division of the batch fits into the memory that each process has, reckoned from the counted cost."""

    def fits(choice: Division) -> bool:
        divided = replace(recipe, accumulate=choice.accumulate)
        memory = memory_of(divided, cost, precision=precision, processes=processes, gpu=gpu)
        return memory.total(choice.images) <= available

    return fits


def _arithmetic(fabric: Fabric, recipe: PretrainRecipe) -> Callable[[Division], bool]:
    precision, gpu = choose_precision(recipe), fabric.device.type == "cuda"
    sharers = 1 if gpu else max(1, fabric.world_size // recipe.nodes)  # the processes of a machine share its memory
    return fits_by_arithmetic(
        recipe,
        cost_of(recipe, precision),
        precision=precision,
        processes=fabric.world_size,
        available=memory_at_hand() // sharers,
        gpu=gpu,
    )


def _trial(fabric: Fabric, recipe: PretrainRecipe) -> Callable[[Division], bool]:
    def fits(choice: Division) -> bool:
        torch.cuda.set_per_process_memory_fraction(SHARE_OF_GPU, fabric.device)
        try:
            _make_step(fabric, recipe, choice.images)
        except torch.cuda.OutOfMemoryError:
            return False
        finally:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0, fabric.device)
        return True

    return fits


def _make_step(fabric: Fabric, recipe: PretrainRecipe, images: int) -> None:
    """Two steps on noise: in the second all that a run keeps is in memory."""
    model = fresh_network(fabric, recipe)
    optimizer = build_optimizer(recipe, model)
    buckets = [torch.empty_like(one) for one in model.parameters() if one.requires_grad and fabric.world_size > 1]
    average = [torch.empty_like(one) for one in model.parameters() if recipe.ema_decay is not None]
    for _ in range(2):
        noise_step(fabric, recipe, model, images)
        optimizer.step()
    del buckets, average
