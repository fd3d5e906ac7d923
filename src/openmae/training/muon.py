"""Muon for matrices and AdamW for everything else, from timm's parts."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from timm.optim.muon import DEFAULT_NS_STEPS, get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor
from torch.optim import AdamW

from openmae.training.processes.devices import computes_in_bf16
from openmae.training.processes.sharding import sharded_like, whole

COEFFICIENTS = [(3.4445, -4.7750, 2.0315)]  # Jordan's, timm's default
SMALLEST_SIDE = 4


class Muon(AdamW):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al., 2024, with the scale of arXiv 2502.16982).

    timm's own Muon always orthogonalises in bf16, which devices without bf16 arithmetic emulate, far slower than single
    precision. This one computes in the precision that the device has, and takes matrices of one shape together.

    Args:
        groups: parameter groups as timm makes them. Those with `use_fallback` are AdamW's, and so is everything in the
            others that is neither a matrix nor, like the kernel of a patch projection, one when flattened.
        lr, betas: as AdamW takes them.
        momentum: of the orthogonalised update, Nesterov's.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, betas: tuple[float, float]
    ) -> None:
        defaults = {"use_fallback": False, "momentum": momentum}
        super().__init__([{**defaults, **group} for group in groups], lr=lr, betas=betas)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; the gradients of the matrices are used up, so that AdamW passes over them."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            if not group["use_fallback"]:
                self._step_matrices(group)
        super().step()
        return loss

    @torch.no_grad()
    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None and _is_matrix(parameter):
                by_shape[(parameter.shape[0], parameter[0].numel())].append(parameter)
        for shape, parameters in by_shape.items():
            # Of a sharded matrix every process orthogonalises the whole and takes its shard of the result.
            updates = torch.stack(
                [whole(self._momentum(parameter, group["momentum"])).view(shape) for parameter in parameters]
            )
            dtype = (
                torch.bfloat16
                if updates.is_cuda and computes_in_bf16()
                else torch.promote_types(updates.dtype, torch.float32)
            )
            orthogonal = zeropower_via_newtonschulz(updates, DEFAULT_NS_STEPS, COEFFICIENTS, dtype=dtype)
            for parameter, update in zip(parameters, orthogonal, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = get_lr_scale(torch.Size(shape), "match_rms_adamw")
                update = update.view(parameter.shape).to(parameter.dtype)
                parameter.add_(sharded_like(update, parameter), alpha=-group["lr"] * scale)
                parameter.grad = None

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """The parameter's Nesterov momentum with its newest gradient."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # unused, but AdamW wants one in every state that it loads
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        assert parameter.grad is not None
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def _is_matrix(parameter: Tensor) -> bool:
    """Whether Muon can treat it: two or more dimensions, neither side too short to be worth orthogonalising."""
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE
