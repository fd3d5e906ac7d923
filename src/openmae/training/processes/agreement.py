"""The one exchange between all processes in a step, after the backward pass and before any weight changes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor


class Verdict(NamedTuple):
    """The outcome of a backward pass, the same in every process.

    Args:
        loss: the mean over all processes.
        gradient_norm: likewise.
        wanted: for each wish, in their order, whether any process has it.
    """

    loss: float
    gradient_norm: float
    wanted: tuple[bool, ...]

    @property
    def finite(self) -> bool:
        """Whether the weights may change: loss and gradient of every process are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def agree(fabric: Fabric, *, loss: Tensor, gradient_norm: Tensor, wishes: Sequence[bool]) -> Verdict:
    """Exchange the loss, the norm and the wishes of this process for those of all; waits for the device.

    A step may change the weights only after every process is known to have a finite loss and gradient. Reasons to act
    that only one process knows (a signal, the clock, an unreadable image) travel along, so that one exchange is enough.
    """
    loss = loss.to(torch.float64 if gradient_norm.device.type != "mps" else torch.float32)
    mine = torch.tensor([float(wish) for wish in wishes], dtype=loss.dtype, device=loss.device)
    total = fabric.all_reduce(torch.cat([loss[None], gradient_norm[None].to(loss), mine]), reduce_op="sum")
    assert isinstance(total, Tensor)
    summed_loss, summed_norm, *counts = total.tolist()
    processes = fabric.world_size
    return Verdict(summed_loss / processes, summed_norm / processes, tuple(count > 0 for count in counts))
