"""The one training loop: `train` lists the parts, `train_step` is the mathematics, `observers/` has all the rest."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from openmae.checkpoints.tensor_files import write_tensors
from openmae.data.batches import Batch
from openmae.data.randomness import Stream, random_stream
from openmae.data.sampling import StepSampler
from openmae.data.workers import batches_of, training_loader
from openmae.errors import UserError
from openmae.terminal.training_view import TrainingView
from openmae.training.gradients import gradient_norm, lower_scale
from openmae.training.observers.alarms import Alarms
from openmae.training.observers.bad_images import BadImages
from openmae.training.observers.checkpointing import Checkpoints
from openmae.training.observers.divergence import Diverged, Divergence, what_is_not_finite
from openmae.training.observers.evaluating import Evaluating
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.observers.progress import Progress
from openmae.training.observers.saving import Saver
from openmae.training.observers.stopping import Stopping
from openmae.training.processes.agreement import agree
from openmae.training.processes.devices import choose_workers
from openmae.training.processes.sharding import whole
from openmae.training.processes.stopping import stop_requests
from openmae.training.processes.watching import Watch
from openmae.training.runs import Run
from openmae.training.schedules import Schedule
from openmae.training.spec import TrainSpec
from openmae.training.state import TrainState, first_state


def train(fabric: Fabric, spec: TrainSpec, run: Run, others: Sequence[Observer] = ()) -> dict[str, float]:
    """Train until the recipe's last step, from the newest checkpoint in the run folder if there is one.

    Args:
        fabric: the processes.
        spec: what is trained.
        run: the run folder.
        others: observers that are called after those of this floor.

    Returns:
        The newest of each figure that was logged.

    Raises:
        Interrupted: after a signal, once the state is saved.
        UserError: for losses that stay not finite, more unreadable images than the recipe permits, or a disk that
            takes no checkpoint at the beginning or the end.
    """
    recipe = spec.recipe
    sampler = _sampler(fabric, spec)
    state = first_state(fabric, spec, Schedule(recipe=recipe, steps_per_epoch=sampler.steps_per_epoch))
    with (
        run.last_words(),
        Watch(fabric, recipe.peer_timeout),
        stop_requests() as asked,
        Saver(run, recipe.save_every, keep=recipe.keep_last, metadata=spec.metadata, asked=asked) as saver,
        TrainingView(
            stage=recipe.stage,
            name=recipe.name,
            place=str(run.path),
            epochs=recipe.epochs,
            steps_per_epoch=sampler.steps_per_epoch,
            stopping=asked.is_set,
        ) as view,
    ):
        run.view = view
        divergence, checkpoints = Divergence(run, recipe), Checkpoints(fabric, run, saver)
        observers = (
            BadImages(fabric, run, spec.dataset, recipe.max_bad),
            divergence,
            Progress(run, recipe, view),
            Stopping(fabric, asked, checkpoints),
            checkpoints,
            Evaluating(fabric, spec, run, asked, checkpoints),
            *others,
            Alarms(spec, run),
        )
        while True:
            checkpoints.restore(state)
            _require_steps_left(state)
            rest = replace(sampler, first_step=state.step, reshuffled=divergence.reshuffled)
            try:
                _make_steps(fabric, spec, state, rest, observers)
                break
            except Diverged as reason:
                divergence.go_back(reason, to=checkpoints.newest_step())
        _export(fabric, spec, state, run)
    return run.figures


def _make_steps(
    fabric: Fabric, spec: TrainSpec, state: TrainState, sampler: StepSampler, observers: Sequence[Observer]
) -> None:
    """Make all steps that are left, over the batches of this sampler."""
    for observer in observers:
        observer.started(state)
    state.wrapped.train()
    pin_memory = fabric.device.type == "cuda"
    loader = training_loader(spec.dataset, sampler, workers=choose_workers(spec.recipe), pin_memory=pin_memory)
    with batches_of(loader) as batches:
        while not state.finished:
            outcome = train_step(fabric, spec, state, batches, observers)
            for observer, wanted in zip(observers, outcome.wanted, strict=True):
                observer.stepped(state, outcome, wanted=wanted)


def train_step(
    fabric: Fabric, spec: TrainSpec, state: TrainState, batches: Iterator[Batch], observers: Sequence[Observer]
) -> Outcome:
    """One step over `accumulate` micro-batches: the weights change, or the step is skipped in every process alike."""
    recipe = spec.recipe
    began, waited = time.perf_counter(), 0.0
    learning_rate = state.set_rates()
    seed_step(recipe.seed, state.step)

    losses: list[Tensor] = []
    for turn in range(recipe.accumulate):
        waiting = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - waiting
        for observer in observers:
            observer.received(batch)
        with fabric.no_backward_sync(cast(Any, state.wrapped), enabled=turn < recipe.accumulate - 1):
            with fabric.autocast():  # the loss too is computed in the run's precision
                loss = spec.loss(state.wrapped, fabric.to_device(batch))
            fabric.backward(loss / recipe.accumulate)
        losses.append(loss.detach())

    state.step += 1
    norm = gradient_norm(fabric, state, clip_norm=recipe.clip_norm)
    wishes = [observer.wants(state) for observer in observers]
    verdict = agree(fabric, loss=torch.stack(losses).mean(), gradient_norm=norm, wishes=wishes)
    problem = None
    if verdict.finite:
        state.update(verdict.loss)
    elif not lower_scale(state, verdict):
        problem = what_is_not_finite(fabric, state.model, batch, losses)
        state.skipped_in_a_row += 1
    state.wrapped_optimizer.zero_grad()
    return Outcome(
        learning_rate=learning_rate,
        gradient_norm=verdict.gradient_norm if verdict.finite else None,
        problem=problem,
        wanted=verdict.wanted,
        seconds=time.perf_counter() - began,
        waited=waited,
    )


def seed_step(seed: int, step: int) -> None:
    """Seed torch for a step: its draws depend on (seed, step) only; those that differ by image come with the batch.

    No rank enters: all ranks mix their images alike, as one process would.
    """
    torch.manual_seed(int(random_stream(seed, Stream.STEP, epoch=step).integers(2**63)))


def _sampler(fabric: Fabric, spec: TrainSpec) -> StepSampler:
    """This process's share of the batches of the whole run.

    Raises:
        UserError: when the images do not fill a batch, or a batch cannot be divided.
    """
    recipe = spec.recipe
    sampler = StepSampler(
        images=len(spec.dataset),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=0,
        last_step=0,
        repeats=spec.dataset.repeats,
        accumulate=recipe.accumulate,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    return replace(sampler, last_step=recipe.epochs * sampler.steps_per_epoch)


def _require_steps_left(state: TrainState) -> None:
    """Raise UserError for a run that has made more steps than its images now make in all epochs."""
    made, total = state.step, state.schedule.total_steps
    if made > total:
        raise UserError(
            f"the run has made {made} steps, and with so few images all of its epochs have only {total}; use another "
            "--out to train on these images"
        )


def _export(fabric: Fabric, spec: TrainSpec, state: TrainState, run: Run) -> None:
    """Write the files that the stage makes of the trained network."""
    for name, tensors in spec.exports(state.trained).items():
        gathered = {key: whole(tensor.detach()).cpu() for key, tensor in tensors.items()}
        if run.writes:
            write_tensors(run.path / name, gathered, spec.metadata)
    fabric.barrier()
