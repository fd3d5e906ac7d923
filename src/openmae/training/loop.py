"""The one training loop: load, forward and backward, clip, step, log, evaluate, save."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from openmae.data.loading import Batch, SeededImages, StepSampler, Stream, random_stream, training_loader
from openmae.recipes import FinetuneRecipe, LinearRecipe, Recipe
from openmae.training import checkpoints
from openmae.training.checkpoints import Checkpoint
from openmae.training.optimizers import set_learning_rate
from openmae.training.progress import ProgressView
from openmae.training.runs import BAD_IMAGES, Run
from openmae.training.runtime import choose_workers
from openmae.training.schedules import learning_rate

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a stage passes to the loop.

    Args:
        recipe: how to train.
        model: the network, on the CPU, freshly initialised.
        optimizer: over its parameters.
        dataset: the training images.
        loss: (model as the loop wraps it, batch on the device) to the mean loss of that batch.
        evaluate: model to named figures, or None when there is nothing to evaluate on.
        exports: model to the tensors of each file written at the end, by file name.
        metadata: of those files and of the checkpoints.
    """

    recipe: Recipe
    model: nn.Module
    optimizer: Optimizer
    dataset: SeededImages
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module], dict[str, float]] | None
    exports: Callable[[nn.Module], Mapping[str, Tensors]]
    metadata: Mapping[str, str]


@dataclass
class Meter:
    """Losses and times since the last log line; the losses stay on the device until then."""

    losses: list[Tensor] = field(default_factory=list)
    images: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def figures(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.started
        return {
            "loss": float(torch.stack(self.losses).mean()),
            "images_per_second": round(self.images / seconds, 1),
            "waiting_for_data": round(self.waited / seconds, 4),
        }


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""


def fit(fabric: Fabric, job: Job, run: Run) -> dict[str, float]:
    """Train until the recipe's last step, from the newest checkpoint in the run folder if there is one.

    Returns:
        The figures of the last log line and the last evaluation.

    Raises:
        Interrupted: after a signal, once the state is saved.
        ValueError: for a loss that is not finite, or more unreadable images than the recipe permits.
    """
    recipe, dataset = job.recipe, job.dataset
    plan = StepSampler(images=len(dataset), batch_size=recipe.batch_size, seed=recipe.seed, first_step=0, last_step=0)
    total_steps = recipe.epochs * plan.steps_per_epoch

    ema = _average(job)
    first_step = _restore_model(job, ema, run)
    compiled = cast(nn.Module, torch.compile(job.model)) if recipe.compile else job.model
    model, optimizer = fabric.setup(compiled, job.optimizer)
    if ema is not None:
        ema.to(fabric.device)
    if first_step:
        _restore_optimizer(job, run)
    run.rewind_metrics(first_step)

    sampler = StepSampler(
        images=len(dataset),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        last_step=total_steps,
        accumulate=recipe.accumulate,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    workers = choose_workers(recipe)
    batches = iter(training_loader(dataset, sampler, workers=workers, pin_memory=fabric.device.type == "cuda"))
    trainable = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
    figures: dict[str, float] = {}
    bad: set[int] = set()
    meter, last_save = Meter(), time.monotonic()

    with (
        ProgressView(recipe.stage, total_steps, run.console, done=first_step, quiet=not run.writes) as view,
        _signals() as asked,
    ):
        model.train()
        for step in range(first_step, total_steps):
            epoch = step / plan.steps_per_epoch
            rates = _group_rates(recipe, job.optimizer, step, total_steps, plan.steps_per_epoch)
            set_learning_rate(
                job.optimizer, rates, lr_in_momentum=isinstance(recipe, LinearRecipe) and recipe.lr_in_momentum
            )
            _seed_step(recipe.seed, step, fabric.global_rank)

            for turn in range(recipe.accumulate):
                waiting = time.perf_counter()
                batch = next(batches)
                meter.waited += time.perf_counter() - waiting
                _note_bad(batch, bad, dataset, run, recipe.max_bad)
                with fabric.no_backward_sync(model, enabled=turn < recipe.accumulate - 1):
                    loss = job.loss(model, fabric.to_device(batch))
                    fabric.backward(loss / recipe.accumulate)
                meter.losses.append(loss.detach())
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(trainable, recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.update_parameters(job.model)
            meter.images += recipe.batch_size

            done = step + 1
            last = done == total_steps
            if last or done % recipe.log_every == 0:
                latest = meter.figures()
                _require_finite(latest["loss"], done)
                figures |= {"epoch": round(done / plan.steps_per_epoch, 4), **latest, "lr": max(rates)}
                run.log(done, **figures)
                title = f"{recipe.stage} epoch {min(int(epoch) + 1, recipe.epochs)}/{recipe.epochs}"
                view.update(done, title, f"loss {latest['loss']:.4f}  {latest['images_per_second']:.0f} images/s")
                meter = Meter()
            if job.evaluate is not None and _evaluation_due(recipe, done, plan.steps_per_epoch, last=last):
                scores = job.evaluate(ema.module if ema is not None else job.model)
                run.log(done, **scores)
                figures |= scores
                model.train()
                meter = Meter()

            stop = asked.is_set() and fabric.world_size == 1
            if last or stop or time.monotonic() - last_save > 60 * recipe.save_every_minutes:
                _save(fabric, job, ema, run, done)
                last_save = time.monotonic()
                meter = Meter()
            if stop and not last:
                raise Interrupted(f"stopped after step {done} of {total_steps}; the same command continues from there")

    if run.writes:
        source = ema.module if ema is not None else job.model
        for name, tensors in job.exports(source).items():
            checkpoints.write_tensors(run.path / name, tensors, job.metadata)
    fabric.barrier()
    return figures


def _average(job: Job) -> AveragedModel | None:
    decay = job.recipe.ema_decay
    if decay is None:
        return None
    average: Any = get_ema_multi_avg_fn  # untyped in torch
    return AveragedModel(job.model, multi_avg_fn=average(decay), use_buffers=True)


def _restore_model(job: Job, ema: AveragedModel | None, run: Run) -> int:
    """Load the newest verified checkpoint into the model; returns the step to go on from."""
    path = checkpoints.newest_verified(run.checkpoints, run.say)
    if path is None:
        return 0
    saved = checkpoints.read_checkpoint(path)
    job.model.load_state_dict(saved.model)
    if ema is not None and saved.ema is not None:
        ema.module.load_state_dict(saved.ema)
        ema.n_averaged.fill_(saved.state["ema_updates"])
    step = int(saved.state["step"])
    run.say(f"continuing from step {step} ({path})")
    return step


def _restore_optimizer(job: Job, run: Run) -> None:
    # A second read, because the optimiser's state must land where fabric has put the parameters meanwhile.
    path = checkpoints.newest_verified(run.checkpoints, lambda _: None)
    assert path is not None, "the model was restored from it"
    checkpoints.restore_optimizer(job.optimizer, checkpoints.read_checkpoint(path).optimizer)


def _save(fabric: Fabric, job: Job, ema: AveragedModel | None, run: Run, step: int) -> None:
    if fabric.is_global_zero:
        model = job.model.state_dict()
        if not checkpoints.all_finite(model):
            raise ValueError(
                f"the weights are not finite after step {step}, nothing was saved; lower --base-lr or set --clip-norm 1"
            )
        state = {} if ema is None else {"ema_updates": int(ema.n_averaged)}
        saved = Checkpoint(
            model=model,
            ema=None if ema is None else ema.module.state_dict(),
            optimizer=checkpoints.optimizer_state(job.optimizer),
            state=state,
        )
        checkpoints.write_checkpoint(run.checkpoints, step, saved, metadata=job.metadata, keep=job.recipe.keep_last)


def _group_rates(
    recipe: Recipe, optimizer: Optimizer, step: int, total_steps: int, steps_per_epoch: int
) -> list[float]:
    """The learning rate of each parameter group at this step."""
    scales = [float(group.get("lr_scale", 1.0)) for group in optimizer.param_groups]
    floor_scaled = not isinstance(recipe, FinetuneRecipe) or recipe.min_lr_scaled
    return [
        learning_rate(
            step,
            peak=recipe.lr * scale,
            floor=recipe.min_lr * scale if floor_scaled else recipe.min_lr,
            total_steps=total_steps,
            warmup_steps=min(total_steps, round(recipe.warmup_epochs * steps_per_epoch)),
            warmup_start=recipe.warmup_start,
        )
        for scale in scales
    ]


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Drop path and other randomness inside the model depend on (seed, step, rank) only."""
    torch.manual_seed(int(random_stream(seed, Stream.STEP, epoch=step, index=rank).integers(2**63)))


def _note_bad(batch: Batch, bad: set[int], dataset: SeededImages, run: Run, limit: float) -> None:
    for record in batch.bad:
        if record.image not in bad:
            bad.add(record.image)
            run.append(BAD_IMAGES, record._asdict())
    if len(bad) > limit * len(dataset):
        raise ValueError(
            f"{len(bad)} of {len(dataset)} images cannot be decoded, the last one {batch.bad[-1].name} "
            f"({batch.bad[-1].reason}); repair what {run.path / BAD_IMAGES} lists, or raise --max-bad"
        )


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} at step {step}; lower --base-lr, set --clip-norm 1, or use bf16 rather than fp16"
        )


def _evaluation_due(recipe: Recipe, done: int, steps_per_epoch: int, *, last: bool) -> bool:
    every: int = getattr(recipe, "eval_every", 1)
    return last or done % (steps_per_epoch * every) == 0


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that is set when the process is asked to stop; a second signal stops it at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous: dict[signal.Signals, Any] = {}

    def handle(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        for which, handler in previous.items():
            signal.signal(which, handler)

    for which in (signal.SIGINT, signal.SIGTERM):
        previous[which] = signal.signal(which, handle)
    try:
        yield asked
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)
