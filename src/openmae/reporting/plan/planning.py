"""A pre-training before it is run: what it costs, how long it takes, what fits, and what is known to fail."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf

import torch

from openmae.core.cost import Cost
from openmae.data.sources import Source
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.recipes.batch import fit_batch
from openmae.reporter import quiet, say
from openmae.reporting.plan.cautions import Caution, Planned, cautions, median_short_side
from openmae.reporting.plan.gpus import GPUS, USUAL, images_per_second
from openmae.reporting.plan.published_runs import IMAGENET, propose, published_runs
from openmae.reporting.plan.result import Disk, Here, MemoryParts, NetworkCost, OnGpu, PlanResult, RunSize
from openmae.training.memory import Memory, cost_of, memory_at_hand, memory_of, moments
from openmae.training.micro_batch import Division, divisions, fits_by_arithmetic
from openmae.training.pixels import reading_of
from openmae.training.pretraining import gather
from openmae.training.processes.devices import Precision, choose_precision
from openmae.training.trial import run_trial
from openmae.weights.adapting import as_weights, freeze_while_decoder_is_fresh
from openmae.weights.reading import read_whole


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a plan is asked for.

    Args:
        recipe: the run.
        given: the fields that the user gave.
        fits_memory: choose the accumulation steps by the memory of this machine.
        images: how many there are, where no data are given.
        gpus: names of GPUs; the usual ones without any.
        share: of a GPU's peak that is assumed.
        price: of a device for one hour.
        seconds: of the trial; 0 for none.
    """

    recipe: PretrainRecipe
    given: Collection[str]
    fits_memory: bool
    images: int | None
    gpus: Sequence[str]
    share: float
    price: float | None
    seconds: float


def make_plan(question: Question) -> PlanResult:
    """Count, try and reckon what a pre-training will take.

    Raises:
        UserError: when the run itself would be refused.
    """
    asked, source, images, assumed = _begin(question)
    precision, processes = choose_precision(asked), asked.devices * asked.nodes
    gpu = torch.cuda.is_available()
    with quiet():
        recipe = asked if images is None else fit_batch(asked, images * asked.repeats)
    cost = cost_of(recipe, precision)
    choices = divisions(recipe.batch_size, processes=processes, repeats=recipe.repeats)
    # Processes of one machine share its memory, but for those that have a GPU each.
    available = memory_at_hand() // (1 if gpu else recipe.devices)
    fits = fits_by_arithmetic(recipe, cost, precision=precision, processes=processes, available=available, gpu=gpu)
    fitting = next((choice for choice in choices if fits(choice)), None)
    if question.fits_memory and fitting is not None:
        recipe = replace(recipe, accumulate=fitting.accumulate)
    own = next((choice for choice in choices if choice.accumulate == recipe.accumulate), None)
    if own is None:
        raise UserError(
            f"a batch of {recipe.batch_size} cannot be cut into {recipe.accumulate} accumulation steps on {processes} "
            f"devices; use --accumulate {max(one.accumulate for one in choices if one.accumulate <= recipe.accumulate)}"
        )
    memory = memory_of(recipe, cost, precision=precision, processes=processes, gpu=gpu)
    cost_on_gpu = cost if precision == "bf16-mixed" else cost_of(recipe, "bf16-mixed")
    on_gpu = memory_of(recipe, cost_on_gpu, precision="bf16-mixed", processes=processes, gpu=True)
    run = None if images is None else _run(recipe, images, assumed=assumed, operations=cost.step)
    short_side = None if source is None else median_short_side(source, reading_of(recipe))
    found = cautions(Planned(asked, recipe, images, short_side))
    if not fits(own) and (source is not None or question.fits_memory):
        found.append(_no_memory(memory, own, available, fitting))
    here = None
    if source is not None and run is not None and question.seconds > 0 and fitting is not None:
        here = _here(recipe, source, run, question, processes=processes if gpu else 1)
    return {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "image_size": list(recipe.image_size),
        "data": recipe.data if recipe.data is None or isinstance(recipe.data, str) else list(recipe.data),
        "network": _network(cost),
        "run": run,
        "memory": _memory(memory, own, precision, available),
        "memory_on_gpu": _memory(on_gpu, own, "bf16-mixed", None),
        "disk": _disk(recipe, cost, precision),
        "here": here,
        "gpus": [_on_gpu(name, recipe, cost_on_gpu, run, question) for name in question.gpus or USUAL],
        "share": question.share,
        "proposals": [] if images is None else propose(recipe, images),
        "published": [] if run is None else published_runs(recipe, run["samples"]),
        "cautions": found,
    }


def _begin(question: Question) -> tuple[PretrainRecipe, Source | None, int | None, bool]:
    """The recipe with all that its data and weights decide, its images, their number, and whether that is assumed."""
    recipe = question.recipe
    if recipe.data is not None:
        if question.images is not None:
            raise UserError("--images stands for data that are not at hand; give it or --data, not both")
        _, recipe, _, source, weights = gather(recipe, question.given)
        return freeze_while_decoder_is_fresh(recipe, weights), source, len(source), False
    weights = None if recipe.weights is None else read_whole(recipe.weights)
    recipe = freeze_while_decoder_is_fresh(as_weights(recipe, weights, question.given), weights)
    if question.images is None and recipe.published_top1 is not None:
        return recipe, None, IMAGENET, True
    return recipe, None, question.images, False


def _network(cost: Cost) -> NetworkCost:
    return {
        "parameters": cost.parameters,
        "encoder_parameters": cost.encoder_parameters,
        "patches": cost.patches,
        "visible_patches": cost.visible,
        "encoder_flop": cost.encoder,
        "decoder_flop": cost.decoder,
        "training_flop": cost.step,
    }


def _run(recipe: PretrainRecipe, images: int, *, assumed: bool, operations: int) -> RunSize:
    steps_per_epoch = images * recipe.repeats // recipe.batch_size
    steps = recipe.epochs * steps_per_epoch
    return {
        "images": images,
        "images_assumed": assumed,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "accumulate": recipe.accumulate,
        "devices": recipe.devices * recipe.nodes,
        "images_at_once": recipe.batch_size // (recipe.accumulate * recipe.devices * recipe.nodes),
        "lr": recipe.lr,
        "warmup_epochs": recipe.warmup_epochs,
        "steps_per_epoch": steps_per_epoch,
        "steps": steps,
        "samples": steps * recipe.batch_size,
        "flop": steps * recipe.batch_size * operations,
    }


def _memory(memory: Memory, division: Division, precision: Precision, available: int | None) -> MemoryParts:
    return {
        "precision": precision,
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "average": memory.average,
        "exchange": memory.buckets + memory.gathered,
        "copies": memory.copies,
        "each_image": memory.image,
        "images_at_once": division.images,
        "images": memory.image * division.images,
        "reserved": memory.reserved,
        "total": memory.total(division.images),
        "available": available,
        "most_images_at_once": None if available is None else memory.most_images(available),
    }


def _no_memory(memory: Memory, own: Division, available: int, fitting: Division | None) -> Caution:
    needed = f"{own.images} images at once need {memory.total(own.images) / 1e9:.1f} GB and {available / 1e9:.1f} GB"
    remedy = (
        "use a smaller backbone, --strategy fsdp on several GPUs, or a GPU with more memory"
        if fitting is None
        else f"use --batch-size auto, or --accumulate {fitting.accumulate}"
    )
    return {"kind": "memory", "message": f"{needed} are free on this machine; {remedy}"}


def _disk(recipe: PretrainRecipe, cost: Cost, precision: Precision) -> Disk:
    number = 8 if precision == "64-true" else 4
    whole = cost.parameters + cost.fixed
    averages = 0 if recipe.ema_decay is None else whole
    checkpoint = number * (whole + averages + moments(recipe) * cost.parameters)
    encoder = number * (cost.encoder_parameters + cost.encoder_fixed)
    return {
        "checkpoint": checkpoint,
        "kept": recipe.keep_last,
        "encoder": encoder,
        # A new one is written before the oldest is deleted.
        "most": (recipe.keep_last + 1) * checkpoint + encoder,
    }


def _here(recipe: PretrainRecipe, source: Source, run: RunSize, question: Question, *, processes: int) -> Here:
    say(f"trying the run for about {question.seconds:g} seconds")
    with quiet():
        trial = run_trial(recipe, source, seconds=question.seconds)
    share = recipe.batch_size // processes
    seconds = trial.run_seconds(images=share, steps_per_epoch=run["steps_per_epoch"], epochs=recipe.epochs)
    hours = seconds / 3600
    return {
        "device": trial.device,
        "devices": processes,
        "threads": trial.threads,
        "workers": trial.workers,
        "trial_seconds": round(trial.seconds, 1),
        "tried_images_at_once": trial.images_at_once,
        "images_per_second": run["samples"] / seconds if seconds else inf,
        "first_epoch_images_per_second": recipe.batch_size / trial.first.step_seconds(share),
        "loader_images_per_second": trial.loader_images_per_second,
        "waiting_for_data": trial.later.waiting,
        "images_held_in_memory": trial.held,
        "step_seconds": trial.later.step_seconds(share),
        "seconds": seconds,
        "hours": hours,
        "limited_by": trial.limited_by,
        "cost": None if question.price is None else hours * processes * question.price,
    }


def _on_gpu(name: str, recipe: PretrainRecipe, cost: Cost, run: RunSize | None, question: Question) -> OnGpu:
    gpu, devices = GPUS[name], recipe.devices * recipe.nodes
    fits = fits_by_arithmetic(
        recipe, cost, precision="bf16-mixed", processes=devices, available=int(gpu.memory), gpu=True
    )
    choices = divisions(recipe.batch_size, processes=devices, repeats=recipe.repeats)
    fitting = next((choice for choice in choices if fits(choice)), None)
    at_once = choices[0].images if fitting is None else fitting.images
    rate = devices * images_per_second(gpu, cost.step, question.share, at_once=at_once)
    hours = None if run is None else run["samples"] / rate / 3600
    return {
        "name": name,
        "devices": devices,
        "peak_flops": gpu.peak,
        "memory": int(gpu.memory),
        "source": gpu.source,
        "images_per_second": rate,
        "hours": hours,
        "cost": None if hours is None or question.price is None else hours * devices * question.price,
        "images_at_once": None if fitting is None else fitting.images,
        "accumulate": None if fitting is None else fitting.accumulate,
    }
