"""The one training loop: load, forward and backward, clip, step, log, evaluate, save."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.data.loading import Batch, SeededImages, StepSampler, Stream, random_stream, training_loader
from openmae.recipes import FinetuneRecipe, LinearRecipe, Recipe
from openmae.training import checkpoints
from openmae.training.bad_images import BadImages
from openmae.training.checkpoints import Checkpoint
from openmae.training.divergence import Diverged, Divergence, what_is_not_finite
from openmae.training.optimizers import set_learning_rate
from openmae.training.progress import ProgressView
from openmae.training.runs import Run
from openmae.training.runtime import choose_workers, numerics
from openmae.training.saving import Saver
from openmae.training.schedules import learning_rate
from openmae.training.state import (
    all_finite,
    load_model,
    load_optimizer,
    model_state,
    optimizer_state,
    optimizer_tensors,
    whole,
)
from openmae.training.stopping import Interrupted, stop_requests
from openmae.training.watching import Watch

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a stage passes to the loop.

    Args:
        recipe: how to train.
        model: the network, on the CPU, freshly initialised.
        optimizer: makes the optimizer for it, once it is where it will be trained.
        dataset: the training images.
        loss: (model as the loop wraps it, batch on the device) to the mean loss of that batch.
        evaluate: (model, whether to give up) to named figures, or None after giving up; None when there is nothing to
            evaluate on.
        exports: model to the tensors of each file written at the end, by file name.
        metadata: of those files and of the checkpoints.
    """

    recipe: Recipe
    model: nn.Module
    optimizer: Callable[[nn.Module], Optimizer]
    dataset: SeededImages
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module, Callable[[], bool]], dict[str, float] | None] | None
    exports: Callable[[nn.Module], Mapping[str, Tensors]]
    metadata: Mapping[str, str]


@dataclass
class Meter:
    """Losses and times since the last log line."""

    losses: list[float] = field(default_factory=list)
    images: int = 0
    skipped: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def figures(self) -> dict[str, float]:
        """The mean loss of the steps that were not skipped, and speeds."""
        seconds = time.perf_counter() - self.started
        mean = {"loss": math.fsum(self.losses) / len(self.losses)} if self.losses else {}
        return {
            **mean,
            "images_per_second": round(self.images / seconds, 1),
            "waiting_for_data": round(self.waited / seconds, 4),
            **({"skipped_steps": self.skipped} if self.skipped else {}),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do something that does not count as training time."""
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began


class Verdict(NamedTuple):
    """What all processes agree on after the backward pass of a step."""

    loss: float
    gradient_norm: float
    stop: bool
    save: bool
    bad_images: bool

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one process holds while it trains: the job, set up where it runs."""

    fabric: Fabric
    job: Job
    run: Run
    model: nn.Module
    optimizer: Optimizer
    inner_optimizer: Optimizer
    ema: ModelEmaV3 | None
    saver: Saver
    bad: BadImages
    divergence: Divergence
    asked: threading.Event
    view: ProgressView
    total_steps: int
    steps_per_epoch: int

    @property
    def trained(self) -> nn.Module:
        """What is evaluated and exported."""
        return self.ema.module if self.ema is not None else self.job.model


def fit(fabric: Fabric, job: Job, run: Run) -> dict[str, float]:
    """Train until the recipe's last step, from the newest checkpoint in the run folder if there is one.

    Returns:
        The figures of the last log line and the last evaluation.

    Raises:
        Interrupted: after a signal, once the state is saved.
        ValueError: for losses that stay not finite, more unreadable images than the recipe permits, or a disk that
            takes no checkpoint at the beginning or the end.
    """
    recipe = job.recipe
    plan = _sampler(job, fabric, first_step=0, last_step=0)
    total_steps = recipe.epochs * plan.steps_per_epoch
    ema = ModelEmaV3(job.model, decay=recipe.ema_decay) if recipe.ema_decay is not None else None
    model = fabric.setup_module(cast(nn.Module, torch.compile(job.model)) if recipe.compile else job.model)
    inner_optimizer = job.optimizer(job.model)
    optimizer = fabric.setup_optimizers(inner_optimizer)
    assert isinstance(optimizer, Optimizer)
    if ema is not None:
        ema.to(fabric.device)

    with (
        Watch(fabric, recipe.peer_timeout, run.note),
        Saver(run, recipe.save_every, keep=recipe.keep_last, metadata=job.metadata) as saver,
        ProgressView(recipe.stage, total_steps, run.console, quiet=not run.writes) as view,
        stop_requests() as asked,
    ):
        training = Training(
            fabric=fabric,
            job=job,
            run=run,
            model=model,
            optimizer=optimizer,
            inner_optimizer=inner_optimizer,
            ema=ema,
            saver=saver,
            bad=BadImages(run, job.dataset, recipe.max_bad),
            divergence=Divergence(run, recipe),
            asked=asked,
            view=view,
            total_steps=total_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )
        while True:
            saved = _restore(training)
            try:
                figures = _train(training, saved)
                break
            except Diverged as reason:
                saver.wait()
                training.divergence.go_back(reason, to=_newest_step(training))

        tensors = {name: _whole(values) for name, values in job.exports(training.trained).items()}
        if run.writes:
            for name, values in tensors.items():
                checkpoints.write_tensors(run.path / name, values, job.metadata)
        fabric.barrier()
    return figures


def _train(training: Training, saved: Checkpoint | None) -> dict[str, float]:
    """From a checkpoint, or the first weights, to the last step."""
    job, run, fabric, recipe = training.job, training.run, training.fabric, training.job.recipe
    first_step = saved.state["step"] if saved is not None else 0
    meter = Meter(losses=list(saved.state["pending_losses"])) if saved is not None else Meter()
    skipped_in_a_row = saved.state["skipped_in_a_row"] if saved is not None else 0
    figures = run.rewind(first_step)
    rates_at = partial(_group_rates, training)
    if saved is None:
        # A disk that takes no checkpoint is found out now, and there is always one to go back to.
        _save(training, 0, meter, skipped_in_a_row, then="must work")
    else:
        # LARS may need the rate before this one.
        set_learning_rate(training.inner_optimizer, rates_at(max(0, first_step - 1)))

    sampler = _sampler(job, fabric, first_step=first_step, last_step=training.total_steps)
    sampler = replace(sampler, reshuffled=training.divergence.reshuffled)
    loader = training_loader(
        job.dataset, sampler, workers=choose_workers(recipe), pin_memory=fabric.device.type == "cuda"
    )
    batches = iter(loader)
    if first_step and not fabric.broadcast(run.was_evaluated(first_step)):
        figures |= _evaluate_if_due(training, first_step)  # a signal came before
    training.model.train()
    training.optimizer.zero_grad()  # a step that was given up may have left some
    for step in range(first_step, training.total_steps):
        rates = rates_at(step)
        set_learning_rate(
            training.inner_optimizer, rates, lr_in_momentum=isinstance(recipe, LinearRecipe) and recipe.lr_in_momentum
        )
        _seed_step(recipe.seed, step, fabric.global_rank)

        losses: list[Tensor] = []
        for turn in range(recipe.accumulate):
            waiting = time.perf_counter()
            batch = _next(batches)
            meter.waited += time.perf_counter() - waiting
            training.bad.see(batch)
            with fabric.no_backward_sync(cast(Any, training.model), enabled=turn < recipe.accumulate - 1):
                loss = job.loss(training.model, fabric.to_device(batch))
                fabric.backward(loss / recipe.accumulate)
            losses.append(loss.detach())

        done = step + 1
        last = done == training.total_steps
        verdict = _agree(training, losses, save=last or training.saver.due(done, training.steps_per_epoch))
        if verdict.bad_images:
            training.bad.report(fabric)
        if verdict.finite:
            training.optimizer.step()
            if training.ema is not None:
                training.ema.update(job.model, done)
            skipped_in_a_row = 0
            meter.losses.append(verdict.loss)
        elif _scale_was_too_large(training, verdict):
            meter.skipped += 1
        else:
            meter.skipped += 1
            skipped_in_a_row += 1
            training.divergence.skip(done, what_is_not_finite(fabric, job.model, batch, losses), skipped_in_a_row)
        training.optimizer.zero_grad()
        meter.images += recipe.batch_size

        if last or done % recipe.log_every == 0:
            latest = {
                "epoch": round(done / training.steps_per_epoch, 4),
                "samples": done * recipe.batch_size,
                **meter.figures(),
                "lr": max(rates),
                **({"gradient_norm": verdict.gradient_norm} if verdict.finite else {}),
            }
            run.log(done, **latest)
            figures |= latest
            title = f"{recipe.stage} epoch {step // training.steps_per_epoch + 1}/{recipe.epochs}"
            speed = f"{latest['images_per_second']:.0f} images/s"
            training.view.update(done, title, f"loss {figures.get('loss', math.nan):.4f}  {speed}")
            meter = Meter()
        if last or verdict.save or verdict.stop:
            then: Literal["go on", "wait"] = "wait" if verdict.stop else "go on"
            with meter.paused():
                _save(training, done, meter, skipped_in_a_row, then="must work" if last else then)
        if verdict.stop and not last:
            raise Interrupted(f"stopped after step {done} of {training.total_steps}")
        with meter.paused():
            figures |= _evaluate_if_due(training, done)
    return figures


def _agree(training: Training, losses: list[Tensor], *, save: bool) -> Verdict:
    """What this step came to, over all processes; waits for the device.

    A step may only change the weights once it is known that every process has a finite loss and gradient, and one
    exchange serves for that, for the loss and for all that only one process knows: a signal, the clock, a bad image.
    """
    norm = _gradient_norm(training)
    loss = torch.stack(losses).mean().to(torch.float64 if norm.device.type != "mps" else torch.float32)
    mine = [training.asked.is_set(), save and training.fabric.is_global_zero, training.bad.unreported]
    values = torch.cat([loss[None], norm[None].to(loss), torch.tensor(mine, dtype=loss.dtype, device=loss.device)])
    total = training.fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    summed_loss, summed_norm, *wishes = total.tolist()
    stop, due, bad = (wish > 0 for wish in wishes)
    processes = training.fabric.world_size
    return Verdict(summed_loss / processes, summed_norm / processes, stop=stop, save=due, bad_images=bad)


def _gradient_norm(training: Training) -> Tensor:
    """The norm of the whole gradient, which is clipped where the recipe says so."""
    clip = training.job.recipe.clip_norm
    if clip is not None or _scaler(training.fabric) is not None:  # to clip is also to take fp16's scale off
        norm = training.fabric.clip_gradients(
            cast(Any, training.model), training.optimizer, max_norm=clip or math.inf, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
    else:
        parameters = [p for group in training.inner_optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return whole(norm.detach())


def _scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """What scales the loss so that fp16's gradients do not vanish."""
    precision = fabric.strategy.precision
    return precision.scaler if isinstance(precision, MixedPrecision) else None


def _scale_was_too_large(training: Training, verdict: Verdict) -> bool:
    """Whether a gradient overflowed only because fp16's scale is still too large; the scaler skips and halves it."""
    scaler = _scaler(training.fabric)
    if scaler is None or not math.isfinite(verdict.loss) or scaler.get_scale() <= 1:
        return False
    training.optimizer.step()
    return True


def _evaluate_if_due(training: Training, done: int) -> dict[str, float]:
    """Evaluate and log, if it is due after this step.

    Raises:
        Interrupted: when asked to stop on the way; the state has been saved before.
    """
    job, run, recipe = training.job, training.run, training.job.recipe
    last = done == training.total_steps
    if job.evaluate is None or not _evaluation_due(recipe, done, training.steps_per_epoch, last=last):
        return {}
    scores = job.evaluate(training.trained, training.asked.is_set)
    training.model.train()
    if scores is None:
        raise Interrupted(f"stopped after step {done} of {training.total_steps}")
    run.log(done, **scores)
    return scores


def _restore(training: Training) -> Checkpoint | None:
    """Put the newest verified checkpoint into model and optimizer; None when there is none."""
    run, job, fabric = training.run, training.job, training.fabric
    step = _newest_step(training)
    if step is None:
        return None
    path = run.checkpoints / checkpoints.directory_name(step)
    try:
        saved = checkpoints.read_checkpoint(path)
    except OSError as error:
        raise ValueError(
            f"rank {fabric.global_rank} cannot read {path} ({error.strerror}); put the run folder where every machine "
            "sees it"
        ) from error
    load_model(job.model, saved.model)
    load_optimizer(job.model, training.inner_optimizer, saved.optimizer)
    if training.ema is not None and saved.ema is not None:
        load_model(training.ema.module, saved.ema)
    scaler = _scaler(fabric)
    if scaler is not None and "scaler" in saved.state:
        scaler.load_state_dict(saved.state["scaler"])
    now = numerics(fabric)
    changed = [
        f"{name} {was} then, {now[name]} now" for name, was in saved.state["numerics"].items() if was != now[name]
    ]
    if changed:
        run.say(f"later losses may differ in their last digits from an uninterrupted run's: {', '.join(changed)}")
    if step:
        run.say(f"continuing from step {step} ({path})")
    return saved


def _newest_step(training: Training) -> int | None:
    """The step of the newest checkpoint that verifies, as the first process finds it; None when there is none."""
    run, fabric = training.run, training.fabric
    path = checkpoints.newest_verified(run.checkpoints, run.say) if fabric.is_global_zero else None
    step = int(path.name.removeprefix("step-")) if path is not None else -1
    step = fabric.broadcast(step)
    return None if step < 0 else step


def _save(
    training: Training,
    step: int,
    meter: Meter,
    skipped_in_a_row: int,
    *,
    then: Literal["go on", "wait", "must work"],
) -> None:
    """Copy everything that a run consists of, and write it.

    Raises:
        Diverged: when something of it is not finite on any process: that is never written.
    """
    job, fabric, ema = training.job, training.fabric, training.ema
    tensors = [*job.model.state_dict().values(), *optimizer_tensors(training.inner_optimizer)]
    if ema is not None:
        tensors += ema.module.state_dict().values()
    wrong = fabric.all_reduce(torch.tensor(0.0 if all_finite(tensors) else 1.0, device=fabric.device), reduce_op="sum")
    assert isinstance(wrong, Tensor)
    if wrong.item():
        raise Diverged(f"weights or optimizer state are not finite after step {step}")
    training.saver.wait()  # two copies at a time may be more than there is memory for
    keep, scaler = fabric.is_global_zero, _scaler(fabric)
    saved = Checkpoint(
        model=model_state(job.model, keep=keep),
        ema=None if ema is None else model_state(ema.module, keep=keep),
        optimizer=optimizer_state(job.model, training.inner_optimizer, keep=keep),
        state={
            "pending_losses": meter.losses,
            "skipped_in_a_row": skipped_in_a_row,
            "numerics": numerics(fabric),
            **({"scaler": scaler.state_dict()} if scaler is not None else {}),
        },
    )
    if keep:
        training.saver.save(step, saved, then=then)


def _whole(tensors: Tensors) -> dict[str, Tensor]:
    return {name: whole(tensor.detach()).cpu() for name, tensor in tensors.items()}


def _sampler(job: Job, fabric: Fabric, *, first_step: int, last_step: int) -> StepSampler:
    recipe = job.recipe
    return StepSampler(
        images=len(job.dataset),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        last_step=last_step,
        repeats=job.dataset.repeats,
        accumulate=recipe.accumulate,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def _group_rates(training: Training, step: int) -> list[float]:
    """The learning rate of each parameter group at this step."""
    recipe = training.job.recipe
    scales = [float(group.get("lr_scale", 1.0)) for group in training.inner_optimizer.param_groups]
    floor_scaled = not isinstance(recipe, FinetuneRecipe) or recipe.min_lr_scaled
    return [
        learning_rate(
            step,
            peak=recipe.lr * scale,
            floor=recipe.min_lr * scale if floor_scaled else recipe.min_lr,
            total_steps=training.total_steps,
            warmup_steps=min(training.total_steps, round(recipe.warmup_epochs * training.steps_per_epoch)),
            warmup_start=recipe.warmup_start,
        )
        for scale in scales
    ]


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Drop path and other randomness inside the model depend on (seed, step, rank) only."""
    torch.manual_seed(int(random_stream(seed, Stream.STEP, epoch=step, index=rank).integers(2**63)))


def _next(batches: Iterator[Batch]) -> Batch:
    """The next batch. What is wrong with the data reaches the user without the traceback of a loader process."""
    try:
        return next(batches)
    except ValueError as error:
        raise ValueError(str(error).strip().rsplit("ValueError: ", 1)[-1]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            f"a process that decodes images has died ({error}); if memory was short use fewer --workers, and run the "
            "same command again to continue"
        ) from error


def _evaluation_due(recipe: Recipe, done: int, steps_per_epoch: int, *, last: bool) -> bool:
    every: int = getattr(recipe, "eval_every", 1)
    return last or done % (steps_per_epoch * every) == 0
