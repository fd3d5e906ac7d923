"""A training under way in one process, and its way into a checkpoint and out of one."""

import threading
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import Checkpoint, directory_name
from openmae.checkpoints.reading import newest_verified, read_checkpoint
from openmae.errors import UserError
from openmae.reporter import ProgressView, say
from openmae.training.bad_images import BadImages
from openmae.training.divergence import Diverged, Divergence
from openmae.training.processes.devices import loss_scaler, numerics
from openmae.training.runs import Run
from openmae.training.saving import Saver
from openmae.training.spec import TrainSpec
from openmae.training.state import (
    all_finite,
    load_model,
    load_optimizer,
    model_state,
    optimizer_state,
    optimizer_tensors,
)


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one process holds while it trains: the job, set up where it runs."""

    fabric: Fabric
    job: TrainSpec
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


def restore(session: Session) -> Checkpoint | None:
    """Put the newest verified checkpoint into model and optimizer; None when there is none."""
    run, job, fabric = session.run, session.job, session.fabric
    step = newest_step(session)
    if step is None:
        return None
    path = run.checkpoints / directory_name(step)
    try:
        saved = read_checkpoint(path)
    except OSError as error:
        raise UserError(
            f"rank {fabric.global_rank} cannot read {path} ({error.strerror}); put the run folder where every machine "
            "sees it"
        ) from error
    load_model(job.model, saved.model)
    load_optimizer(job.model, session.inner_optimizer, saved.optimizer)
    if session.ema is not None and saved.ema is not None:
        load_model(session.ema.module, saved.ema)
    scaler = loss_scaler(fabric)
    if scaler is not None and "scaler" in saved.state:
        scaler.load_state_dict(saved.state["scaler"])
    now = numerics(fabric)
    changed = [
        f"{name} {was} then, {now[name]} now" for name, was in saved.state["numerics"].items() if was != now[name]
    ]
    if changed:
        say(f"later losses may differ in their last digits from an uninterrupted run's: {', '.join(changed)}")
    if step:
        say(f"continuing from step {step} ({path})")
    return saved


def newest_step(session: Session) -> int | None:
    """The step of the newest checkpoint that verifies, as the first process finds it; None when there is none."""
    run, fabric = session.run, session.fabric
    path = newest_verified(run.checkpoints) if fabric.is_global_zero else None
    step = int(path.name.removeprefix("step-")) if path is not None else -1
    step = fabric.broadcast(step)
    return None if step < 0 else step


def save(
    session: Session,
    step: int,
    pending_losses: list[float],
    skipped_in_a_row: int,
    *,
    must_work: bool,
    in_a_hurry: bool = False,
) -> None:
    """Put everything that a run consists of into memory, and write it.

    Args:
        session: the run.
        step: how many steps it has seen.
        pending_losses: that have not been logged yet.
        skipped_in_a_row: steps whose loss or gradient was not finite, up to this one.
        must_work: return when it has been written.
        in_a_hurry: as `write_checkpoint` explains.

    Raises:
        Diverged: when something of it is not finite on any process: that is never written.
    """
    job, fabric, ema = session.job, session.fabric, session.ema
    tensors = [*job.model.state_dict().values(), *optimizer_tensors(session.inner_optimizer)]
    if ema is not None:
        tensors += ema.module.state_dict().values()
    wrong = fabric.all_reduce(torch.tensor(0.0 if all_finite(tensors) else 1.0, device=fabric.device), reduce_op="sum")
    assert isinstance(wrong, Tensor)
    if wrong.item():
        raise Diverged(f"weights or optimizer state are not finite after step {step}")
    if in_a_hurry:
        session.asked.set()  # whichever process was: it gives up what is being written
    session.saver.wait()  # two copies at a time may be more than there is memory for
    if fabric.broadcast(session.saver.saved == step):
        return
    keep, scaler = fabric.is_global_zero, loss_scaler(fabric)
    copy = not must_work  # else the training waits until it is written
    saved = Checkpoint(
        model=model_state(job.model, keep=keep, copy=copy),
        ema=None if ema is None else model_state(ema.module, keep=keep, copy=copy),
        optimizer=optimizer_state(job.model, session.inner_optimizer, keep=keep, copy=copy),
        state={
            "pending_losses": list(pending_losses),  # a copy: the training goes on while this is written
            "skipped_in_a_row": skipped_in_a_row,
            "numerics": numerics(fabric),
            **({"scaler": scaler.state_dict()} if scaler is not None else {}),
        },
    )
    if keep:
        session.saver.save(step, saved, must_work=must_work, in_a_hurry=in_a_hurry)
