"""The gradient of a step: its norm, clipping, and the scale that fp16 needs."""

import math
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from openmae.training.processes.agreement import Verdict
from openmae.training.processes.sharding import whole
from openmae.training.state import TrainState


def gradient_norm(fabric: Fabric, state: TrainState, *, clip_norm: float | None) -> Tensor:
    """The norm of the whole gradient, which is clipped to `clip_norm` where that is given."""
    if clip_norm is not None or state.scaler is not None:  # clipping also divides by fp16's scale
        norm = fabric.clip_gradients(
            cast(Any, state.wrapped),
            state.wrapped_optimizer,
            max_norm=math.inf if clip_norm is None else clip_norm,
            error_if_nonfinite=False,
        )
        assert isinstance(norm, Tensor)
    else:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return whole(norm.detach())


def lower_scale(state: TrainState, verdict: Verdict) -> bool:
    """Halve fp16's scale if a gradient overflowed only because it is still too large; returns whether it did."""
    if state.scaler is None or not math.isfinite(verdict.loss) or state.scaler.get_scale() <= 1:
        return False
    state.wrapped_optimizer.step()  # the scaler skips the step and halves its scale
    return True
