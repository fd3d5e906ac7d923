"""What all processes agree on after the backward pass of a step, before any weight changes."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from openmae.training.processes.devices import loss_scaler
from openmae.training.session import Session
from openmae.training.state import whole


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


def agree(session: Session, losses: list[Tensor], *, save: bool) -> Verdict:
    """What this step came to, over all processes; waits for the device.

    A step may only change the weights once it is known that every process has a finite loss and gradient, and one
    exchange serves for that, for the loss and for all that only one process knows: a signal, the clock, a bad image.
    """
    norm = _gradient_norm(session)
    loss = torch.stack(losses).mean().to(torch.float64 if norm.device.type != "mps" else torch.float32)
    mine = [session.asked.is_set(), save and session.fabric.is_global_zero, session.bad.unreported]
    values = torch.cat([loss[None], norm[None].to(loss), torch.tensor(mine, dtype=loss.dtype, device=loss.device)])
    total = session.fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    summed_loss, summed_norm, *wishes = total.tolist()
    stop, due, bad = (wish > 0 for wish in wishes)
    processes = session.fabric.world_size
    return Verdict(summed_loss / processes, summed_norm / processes, stop=stop, save=due, bad_images=bad)


def _gradient_norm(session: Session) -> Tensor:
    """The norm of the whole gradient, which is clipped where the recipe says so."""
    clip = session.job.recipe.clip_norm
    if clip is not None or loss_scaler(session.fabric) is not None:  # to clip is also to take fp16's scale off
        norm = session.fabric.clip_gradients(
            cast(Any, session.model), session.optimizer, max_norm=clip or math.inf, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
    else:
        parameters = [p for group in session.inner_optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return whole(norm.detach())


def scale_was_too_large(session: Session, verdict: Verdict) -> bool:
    """Whether a gradient overflowed only because fp16's scale is still too large; the scaler skips and halves it."""
    scaler = loss_scaler(session.fabric)
    if scaler is None or not math.isfinite(verdict.loss) or scaler.get_scale() <= 1:
        return False
    session.optimizer.step()
    return True
