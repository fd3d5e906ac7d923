"""The one training loop: load, forward and backward, clip, step, log, evaluate, save."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

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

    def figures(self, fabric: Fabric) -> dict[str, float]:
        """The mean loss over all processes, and speeds."""
        mean = fabric.all_reduce(torch.stack(self.losses).mean(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        loss = float(mean)  # waits for the device, so that the time below is that of its work, not of its queue
        seconds = time.perf_counter() - self.started
        return {
            "loss": loss,
            "images_per_second": round(self.images / seconds, 1),
            "waiting_for_data": round(self.waited / seconds, 4),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do something that does not count as training time."""
        self.pending()
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began

    def pending(self) -> list[float]:
        """The losses that are not logged yet; waits for the device."""
        return [float(loss) for loss in self.losses]


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
    if recipe.precision == "64-true":
        job.model.double()  # before weights are restored into it: single precision would round them
    plan = StepSampler(
        images=len(dataset),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=0,
        last_step=0,
        repeats=dataset.repeats,
    )
    total_steps = recipe.epochs * plan.steps_per_epoch

    rates_at = partial(
        _group_rates, recipe, job.optimizer, total_steps=total_steps, steps_per_epoch=plan.steps_per_epoch
    )
    ema = ModelEmaV3(job.model, decay=recipe.ema_decay) if recipe.ema_decay is not None else None
    saved = _restore_model(job, ema, run)
    first_step = int(saved.state["step"]) if saved is not None else 0
    compiled = cast(nn.Module, torch.compile(job.model)) if recipe.compile else job.model
    model, optimizer = fabric.setup(compiled, job.optimizer)
    if ema is not None:
        ema.to(fabric.device)
    meter = Meter()
    if saved is not None:
        # LARS may need the rate before this one; and its state must land where fabric has put the parameters meanwhile.
        set_learning_rate(job.optimizer, rates_at(first_step - 1))
        checkpoints.restore_optimizer(job.optimizer, saved.optimizer)
        dtype = torch.float64 if recipe.precision == "64-true" else torch.float32
        pending = saved.state["pending_losses"]
        meter.losses += [torch.tensor(loss, device=fabric.device, dtype=dtype) for loss in pending]
    figures = run.rewind(first_step)

    sampler = StepSampler(
        images=len(dataset),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        last_step=total_steps,
        repeats=dataset.repeats,
        accumulate=recipe.accumulate,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    loader = training_loader(dataset, sampler, workers=choose_workers(recipe), pin_memory=fabric.device.type == "cuda")
    bad = {int(record["image"]) for record in run.records(BAD_IMAGES)}
    last_save = time.monotonic()

    with (
        ProgressView(recipe.stage, total_steps, run.console, done=first_step, quiet=not run.writes) as view,
        _signals(enabled=fabric.world_size == 1) as asked,
    ):
        batches = iter(loader)  # its workers inherit the handler of signals: Ctrl-C reaches them too
        model.train()
        for step in range(first_step, total_steps):
            rates = rates_at(step)
            set_learning_rate(
                job.optimizer, rates, lr_in_momentum=isinstance(recipe, LinearRecipe) and recipe.lr_in_momentum
            )
            _seed_step(recipe.seed, step)

            for turn in range(recipe.accumulate):
                waiting = time.perf_counter()
                batch = _next(batches)
                meter.waited += time.perf_counter() - waiting
                _note_bad(batch, bad, dataset, run, recipe.max_bad)
                with fabric.no_backward_sync(model, enabled=turn < recipe.accumulate - 1):
                    with fabric.autocast():  # the loss too is computed in the run's precision
                        loss = job.loss(model, fabric.to_device(batch))
                    fabric.backward(loss / recipe.accumulate)
                meter.losses.append(loss.detach().to(torch.promote_types(loss.dtype, torch.float32)))
            if recipe.clip_norm is not None:
                fabric.clip_gradients(model, optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.update(job.model, step + 1)
            meter.images += recipe.batch_size

            done = step + 1
            last = done == total_steps
            if last or done % recipe.log_every == 0:
                latest = meter.figures(fabric)
                _require_finite(latest["loss"], done)
                latest = {
                    "epoch": round(done / plan.steps_per_epoch, 4),
                    "samples": done * recipe.batch_size,
                    **latest,
                    "lr": max(rates),
                }
                run.log(done, **latest)
                figures |= latest
                title = f"{recipe.stage} epoch {step // plan.steps_per_epoch + 1}/{recipe.epochs}"
                view.update(done, title, f"loss {latest['loss']:.4f}  {latest['images_per_second']:.0f} images/s")
                meter = Meter()
            if job.evaluate is not None and _evaluation_due(recipe, done, plan.steps_per_epoch, last=last):
                with meter.paused():
                    scores = job.evaluate(ema.module if ema is not None else job.model)
                run.log(done, **scores)
                figures |= scores
                model.train()

            stop = asked.is_set()
            if last or stop or time.monotonic() - last_save > 60 * recipe.save_every_minutes:
                with meter.paused():
                    _save(fabric, job, ema, run, done, meter.pending())
                last_save = time.monotonic()
            if stop and not last:
                raise Interrupted(f"stopped after step {done} of {total_steps}; the same command continues from there")

    if run.writes:
        source = ema.module if ema is not None else job.model
        for name, tensors in job.exports(source).items():
            checkpoints.write_tensors(run.path / name, tensors, job.metadata)
    fabric.barrier()
    return figures


def _restore_model(job: Job, ema: ModelEmaV3 | None, run: Run) -> Checkpoint | None:
    """Load the newest verified checkpoint into the model; returns it, or None when there is none."""
    path = checkpoints.newest_verified(run.checkpoints, run.say)
    if path is None:
        return None
    saved = checkpoints.read_checkpoint(path)
    job.model.load_state_dict(saved.model)
    if ema is not None and saved.ema is not None:
        ema.module.load_state_dict(saved.ema)
    run.say(f"continuing from step {saved.state['step']} ({path})")
    return saved


def _save(fabric: Fabric, job: Job, ema: ModelEmaV3 | None, run: Run, step: int, pending_losses: list[float]) -> None:
    if fabric.is_global_zero:
        model = job.model.state_dict()
        if not checkpoints.all_finite(model):
            raise ValueError(
                f"the weights are not finite after step {step}, nothing was saved; lower --base-lr or set --clip-norm 1"
            )
        saved = Checkpoint(
            model=model,
            ema=None if ema is None else ema.module.state_dict(),
            optimizer=checkpoints.optimizer_state(job.optimizer),
            state={"pending_losses": pending_losses},
        )
        checkpoints.write_checkpoint(run.checkpoints, step, saved, metadata=job.metadata, keep=job.recipe.keep_last)


def _group_rates(
    recipe: Recipe, optimizer: Optimizer, step: int, *, total_steps: int, steps_per_epoch: int
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


def _seed_step(seed: int, step: int) -> None:
    """What is drawn for a whole step depends on (seed, step) only; what differs by image comes with its batch.

    No rank enters: all ranks mix their images alike, as one process would.
    """
    torch.manual_seed(int(random_stream(seed, Stream.STEP, epoch=step).integers(2**63)))


def _next(batches: Iterator[Batch]) -> Batch:
    """The next batch. What is wrong with the data reaches the user without the traceback of a loader process."""
    try:
        return next(batches)
    except ValueError as error:
        raise ValueError(str(error).strip().rsplit("ValueError: ", 1)[-1]) from error


def _note_bad(batch: Batch, bad: set[int], dataset: SeededImages, run: Run, limit: float) -> None:
    for record in batch.bad:
        if record.image not in bad:
            bad.add(record.image)
            run.append(BAD_IMAGES, record._asdict())
    if batch.bad and len(bad) > limit * len(dataset):
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
def _signals(*, enabled: bool) -> Iterator[threading.Event]:
    """An event that is set when the process is asked to stop; a second signal stops it at once."""
    asked = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
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
