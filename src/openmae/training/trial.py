"""A short trial of a pre-training on this machine, with the loader and the steps of the real run, and no run folder."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from lightning_fabric import Fabric

from openmae.data.sampling import StepSampler
from openmae.data.sources import Source
from openmae.data.workers import batches_of, training_loader
from openmae.recipes import PretrainRecipe
from openmae.training.observers.observer import Observer
from openmae.training.pretraining import specify
from openmae.training.processes.devices import choose_workers, start_fabric
from openmae.training.schedules import Schedule
from openmae.training.spec import TrainSpec
from openmae.training.state import TrainState, first_state
from openmae.training.trainer import train_step
from openmae.training.trial_size import find_size, wait_for
from openmae.weights.networks import network_of

PARTS = {"size": 0.15, "first": 0.35, "later": 0.35, "loader": 0.15}
"""The shares of the time in which is found out how many images a step can take; how fast the first epoch is, and the
others, where decoded images are held; and how fast the loader alone is."""
STEPS_WANTED = 6
"""How many steps a part of the trial should have time for."""
Limit = Literal["memory", "data", "compute"]

WARM_SHARE = 0.25
"""The first share of each part is not timed: the queue of batches fills up, memory is allocated, code is compiled."""
STARVED = 0.1
"""Above this share of waiting, the data are the limit."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a part of the trial was, per image, and what belongs to a step whatever its size.

    Args:
        seconds_per_image: of a step, without changing the weights; with the time that it waits for images.
        update: seconds to change the weights.
        waiting: share of the time that waits for images.
    """

    seconds_per_image: float
    update: float
    waiting: float

    def step_seconds(self, images: int) -> float:
        """Of a step over so many images of this process, in any number of accumulation steps."""
        return images * self.seconds_per_image + self.update


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a trial measured, of one process.

    Args:
        device: the name of the GPU, or "CPU".
        threads: that compute, on a CPU.
        workers: processes that decode.
        seconds: how long it took.
        images_at_once: how many the steps of the trial took.
        first: speed of the first epoch.
        later: speed of the others; the same, unless decoded images are held in memory.
        held: whether they are.
        loader_images_per_second: of the loader alone, in the later epochs.
        fits: whether there is memory for as many images at once as the recipe asks for.
        peak_memory: bytes of the GPU that were in use; None on a CPU.
    """

    device: str
    threads: int
    workers: int
    seconds: float
    images_at_once: int
    first: Speed
    later: Speed
    held: bool
    loader_images_per_second: float
    fits: bool
    peak_memory: int | None

    @property
    def limited_by(self) -> Limit:
        """What a faster run would need more of."""
        if not self.fits:
            return "memory"
        return "data" if self.later.waiting > STARVED else "compute"

    def run_seconds(self, *, images: int, steps_per_epoch: int, epochs: int) -> float:
        """How long a run takes whose steps are over so many images of this process."""
        first, later = self.first.step_seconds(images), self.later.step_seconds(images)
        return steps_per_epoch * (first + (epochs - 1) * later)


def run_trial(recipe: PretrainRecipe, source: Source, *, seconds: float) -> Trial:
    """Try a pre-training for about so many seconds, on one device.

    The steps are those of the run; where one of them would take too long for that time, they have fewer images, and the
    time of changing the weights is kept apart.

    Args:
        recipe: with all that the images decide filled in; its batch is that of all devices.
        source: the images.
        seconds: of all parts; building the network comes on top.
    """
    started = time.perf_counter()
    alone = replace(recipe, devices=1, nodes=1, strategy="auto")
    fabric = start_fabric(alone)
    share = recipe.batch_size // (recipe.accumulate * recipe.devices * recipe.nodes)
    size = find_size(fabric, alone, wanted=max(recipe.repeats, share), longest=seconds * PARTS["first"] / STEPS_WANTED)
    tried = replace(alone, batch_size=size.images, accumulate=1)
    torch.manual_seed(tried.seed)
    spec = specify(tried, network_of(tried).build_autoencoder(mlp_bias_std=tried.mlp_bias_std), source)
    sampler = StepSampler(
        images=len(source),
        batch_size=tried.batch_size,
        seed=tried.seed,
        first_step=0,
        last_step=0,
        repeats=tried.repeats,
    )
    state = first_state(fabric, spec, Schedule(recipe=tried, steps_per_epoch=sampler.steps_per_epoch))
    state.wrapped.train()
    part = {name: seconds * portion for name, portion in PARTS.items()}
    held = spec.dataset.cache is not None
    if held:
        first, made = _speed(fabric, spec, state, _epoch(sampler), seconds=part["first"], most=sampler.steps_per_epoch)
        seen = replace(sampler, last_step=made)
        later, _ = _speed(fabric, spec, state, _without_end(seen), seconds=part["later"])
        rest = _without_end(seen)
    else:
        first, made = _speed(fabric, spec, state, _without_end(_epoch(sampler)), seconds=part["first"] + part["later"])
        later = first
        begin = made % sampler.steps_per_epoch
        rest = itertools.chain(replace(_epoch(sampler), first_step=begin), _without_end(_epoch(sampler)))
    return Trial(
        device=torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "CPU",
        threads=torch.get_num_threads(),
        workers=choose_workers(tried),
        images_at_once=size.images,
        first=first,
        later=later,
        held=held,
        loader_images_per_second=_loader_speed(spec, rest, seconds=part["loader"]),
        fits=size.fits,
        peak_memory=torch.cuda.max_memory_reserved(fabric.device) if fabric.device.type == "cuda" else None,
        seconds=time.perf_counter() - started,
    )


class _Clock(Observer):
    """Notes when the backward pass of a step is done and the weights are about to change."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.backward_done = 0.0

    def wants(self, state: TrainState) -> bool:  # noqa: ARG002  # an observer need not look at all that it is shown
        wait_for(self._fabric)
        self.backward_done = time.perf_counter()
        return False


def _speed(
    fabric: Fabric,
    spec: TrainSpec,
    state: TrainState,
    keys: Iterable[list[tuple[int, int]]],
    *,
    seconds: float,
    most: int | None = None,
) -> tuple[Speed, int]:
    """The speed of training steps for so many seconds, or for at most so many steps; and how many were made."""
    clock = _Clock(fabric)
    steps: list[tuple[float, float, float, float]] = []
    """When each ended, how long it took, the change of the weights in it, and how long it waited."""
    loader = training_loader(
        spec.dataset, keys, workers=choose_workers(spec.recipe), pin_memory=fabric.device.type == "cuda"
    )
    with batches_of(loader) as batches:
        began = time.perf_counter()
        while len(steps) != most and time.perf_counter() < began + seconds:
            outcome = train_step(fabric, spec, state, batches, (clock,))
            now = time.perf_counter()
            steps.append((now - began, outcome.seconds, now - clock.backward_done, outcome.waited))
    timed = [step for step in steps if step[0] - step[1] > WARM_SHARE * seconds] or steps[1:] or steps
    whole, update, waited = (sum(step[part] for step in timed) for part in (1, 2, 3))
    speed = Speed(
        seconds_per_image=(whole - update) / (len(timed) * spec.recipe.batch_size),
        update=update / len(timed),
        waiting=waited / whole,
    )
    return speed, len(steps)


def _loader_speed(spec: TrainSpec, keys: Iterable[list[tuple[int, int]]], *, seconds: float) -> float:
    """Images per second of the loader, when nothing is trained meanwhile."""
    loader = training_loader(spec.dataset, keys, workers=choose_workers(spec.recipe), pin_memory=False)
    ends: list[float] = []
    images: list[int] = []
    with batches_of(loader) as batches:
        began = time.perf_counter()
        while time.perf_counter() < began + seconds or len(ends) < 2:
            images.append(len(next(batches).images))
            ends.append(time.perf_counter())
    warm = next((place for place, end in enumerate(ends[:-1]) if end > began + WARM_SHARE * seconds), 0)
    return sum(images[warm + 1 :]) / (ends[-1] - ends[warm])


def _epoch(sampler: StepSampler) -> StepSampler:
    return replace(sampler, last_step=sampler.steps_per_epoch)


def _without_end(sampler: StepSampler) -> Iterator[list[tuple[int, int]]]:
    return itertools.chain.from_iterable(itertools.repeat(sampler))
