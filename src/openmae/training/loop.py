"""The one training loop: load, forward and backward, clip, step, log, evaluate, save."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import Checkpoint
from openmae.checkpoints.tensor_files import write_tensors
from openmae.data.batches import Batch
from openmae.data.randomness import Stream, random_stream
from openmae.data.sampling import StepSampler
from openmae.data.workers import batches_of, training_loader
from openmae.errors import UserError
from openmae.recipes import FinetuneRecipe, LinearRecipe
from openmae.reporter import ProgressView
from openmae.training.bad_images import BadImages
from openmae.training.divergence import Diverged, Divergence, what_is_not_finite
from openmae.training.optimizers import set_learning_rate
from openmae.training.processes.agreement import agree, scale_was_too_large
from openmae.training.processes.devices import choose_workers
from openmae.training.processes.stopping import Interrupted, stop_requests
from openmae.training.processes.watching import Watch
from openmae.training.runs import Run
from openmae.training.saving import Saver
from openmae.training.schedules import learning_rate
from openmae.training.session import Session, newest_step, restore, save
from openmae.training.spec import TrainSpec
from openmae.training.state import unsharded, whole


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


def fit(fabric: Fabric, job: TrainSpec, run: Run) -> dict[str, float]:
    """Train until the recipe's last step, from the newest checkpoint in the run folder if there is one.

    Returns:
        The figures of the last log line and the last evaluation.

    Raises:
        Interrupted: after a signal, once the state is saved.
        UserError: for losses that stay not finite, more unreadable images than the recipe permits, or a disk that
            takes no checkpoint at the beginning or the end.
    """
    recipe = job.recipe
    if recipe.precision == "64-true":
        job.model.double()  # before weights are restored into it: single precision would round them
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
        Watch(fabric, recipe.peer_timeout),
        stop_requests() as asked,
        Saver(run, recipe.save_every, keep=recipe.keep_last, metadata=job.metadata, asked=asked) as saver,
        ProgressView(recipe.stage, total_steps) as view,
    ):
        session = Session(
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
            saved = restore(session)
            try:
                figures = _train(session, saved)
                break
            except Diverged as reason:
                saver.forget()
                session.divergence.go_back(reason, to=newest_step(session))

        for name, tensors in job.exports(session.trained).items():
            gathered = {key: whole(tensor.detach()).cpu() for key, tensor in tensors.items()}
            if run.writes:
                write_tensors(run.path / name, gathered, job.metadata)
        fabric.barrier()
    return figures


def _train(session: Session, saved: Checkpoint | None) -> dict[str, float]:
    """From a checkpoint, or the first weights, to the last step."""
    job, run, fabric, recipe = session.job, session.run, session.fabric, session.job.recipe
    first_step = saved.state["step"] if saved is not None else 0
    meter = Meter(losses=list(saved.state["pending_losses"])) if saved is not None else Meter()
    skipped_in_a_row = saved.state["skipped_in_a_row"] if saved is not None else 0
    figures = run.rewind(first_step)
    rates_at = partial(_group_rates, session)
    if saved is None:
        # A disk that takes no checkpoint is found out now, and there is always one to go back to.
        save(session, 0, meter.losses, skipped_in_a_row, must_work=True)
    else:
        # LARS may need the rate before this one.
        set_learning_rate(session.inner_optimizer, rates_at(max(0, first_step - 1)))

    sampler = _sampler(job, fabric, first_step=first_step, last_step=session.total_steps)
    sampler = replace(sampler, reshuffled=session.divergence.reshuffled)
    loader = training_loader(
        job.dataset, sampler, workers=choose_workers(recipe), pin_memory=fabric.device.type == "cuda"
    )
    with batches_of(loader) as batches:
        if first_step and _evaluation_due(session, first_step) and not fabric.broadcast(run.was_evaluated(first_step)):
            scores = _evaluate(session, first_step)  # the run was stopped before that was done
            if scores is None:
                raise Interrupted(f"stopped during the evaluation after step {first_step} of {session.total_steps}")
            figures |= scores
        session.model.train()
        session.optimizer.zero_grad()  # a step that was given up may have left some
        for step in range(first_step, session.total_steps):
            rates = rates_at(step)
            set_learning_rate(
                session.inner_optimizer,
                rates,
                lr_in_momentum=isinstance(recipe, LinearRecipe) and recipe.lr_in_momentum,
            )
            _seed_step(recipe.seed, step)

            losses: list[Tensor] = []
            for turn in range(recipe.accumulate):
                waiting = time.perf_counter()
                batch = _next(batches)
                meter.waited += time.perf_counter() - waiting
                session.bad.see(batch)
                with fabric.no_backward_sync(cast(Any, session.model), enabled=turn < recipe.accumulate - 1):
                    with fabric.autocast():  # the loss too is computed in the run's precision
                        loss = job.loss(session.model, fabric.to_device(batch))
                    fabric.backward(loss / recipe.accumulate)
                losses.append(loss.detach())

            done = step + 1
            last = done == session.total_steps
            verdict = agree(session, losses, save=last or session.saver.due(done, session.steps_per_epoch))
            if verdict.bad_images:
                session.bad.report(fabric)
            if verdict.finite:
                session.optimizer.step()
                if session.ema is not None:
                    session.ema.update(job.model, done)
                skipped_in_a_row = 0
                meter.losses.append(verdict.loss)
            elif scale_was_too_large(session, verdict):
                meter.skipped += 1
            else:
                meter.skipped += 1
                skipped_in_a_row += 1
                session.divergence.skip(done, what_is_not_finite(fabric, job.model, batch, losses), skipped_in_a_row)
            session.optimizer.zero_grad()
            meter.images += recipe.batch_size

            if last or done % recipe.log_every == 0:
                latest = {
                    "epoch": round(done / session.steps_per_epoch, 4),
                    "samples": done * recipe.batch_size,
                    **meter.figures(),
                    "lr": max(rates),
                    **({"gradient_norm": verdict.gradient_norm} if verdict.finite else {}),
                }
                run.log(done, **latest)
                figures |= latest
                title = f"{recipe.stage} epoch {step // session.steps_per_epoch + 1}/{recipe.epochs}"
                speed = f"{latest['images_per_second']:.0f} images/s"
                session.view.update(done, title, f"loss {figures.get('loss', math.nan):.4f}  {speed}")
                meter = Meter()
            # A process alone hears of a signal that came after the exchange, and not only a whole step later.
            stop = verdict.stop or (fabric.world_size == 1 and session.asked.is_set())
            if last or verdict.save or stop:
                with meter.paused():
                    hurry = stop and not last
                    save(session, done, meter.losses, skipped_in_a_row, must_work=last or stop, in_a_hurry=hurry)
            if stop and not last:
                raise Interrupted(f"stopped after step {done} of {session.total_steps}")
            if _evaluation_due(session, done):
                with meter.paused():
                    scores = _evaluate(session, done)
                    if scores is None:
                        save(session, done, meter.losses, skipped_in_a_row, must_work=True, in_a_hurry=True)
                        raise Interrupted(f"stopped during the evaluation after step {done} of {session.total_steps}")
                figures |= scores
    return figures


def _evaluate(session: Session, done: int) -> dict[str, float] | None:
    """Evaluate and log; None when asked to stop on the way."""
    assert session.job.evaluate is not None
    with unsharded(session.trained):
        scores = session.job.evaluate(session.trained, session.asked.is_set)
    session.model.train()
    if scores is not None:
        session.run.log(done, **scores)
    return scores


def _evaluation_due(session: Session, done: int) -> bool:
    every: int = getattr(session.job.recipe, "eval_every", 1)
    due = done == session.total_steps or done % (session.steps_per_epoch * every) == 0
    return due and session.job.evaluate is not None


def _sampler(job: TrainSpec, fabric: Fabric, *, first_step: int, last_step: int) -> StepSampler:
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


def _group_rates(session: Session, step: int) -> list[float]:
    """The learning rate of each parameter group at this step."""
    recipe = session.job.recipe
    scales = [float(group.get("lr_scale", 1.0)) for group in session.inner_optimizer.param_groups]
    floor_scaled = not isinstance(recipe, FinetuneRecipe) or recipe.min_lr_scaled
    return [
        learning_rate(
            step,
            peak=recipe.lr * scale,
            floor=recipe.min_lr * scale if floor_scaled else recipe.min_lr,
            total_steps=session.total_steps,
            warmup_steps=min(session.total_steps, round(recipe.warmup_epochs * session.steps_per_epoch)),
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
    except UserError as error:
        raise UserError(str(error).strip().rsplit("UserError: ", 1)[-1]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that decodes images has died ({error}); if memory was short use fewer --workers, and run the "
            "same command again to continue"
        ) from error
