"""Tensors that several processes share out among them: made whole, cut into shards, taken into memory and put back."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from openmae.errors import UserError


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all its shards put together, for which every process must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, target: Tensor) -> Tensor:
    """The tensor, which every process has whole, sharded as the target is."""
    if not isinstance(target, DTensor):
        return tensor
    on_device = tensor.to(target.device)
    return distribute_tensor(on_device, target.device_mesh, target.placements, src_data_rank=None)


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """Within the block every process has all parameters of a sharded model, and may call it however often."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.reshard()
        part.set_reshard_after_forward(part is not module, recurse=False)  # as `fully_shard` leaves it


def local(tensor: Tensor) -> Tensor:
    """The shard of the tensor that lies in this process."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def model_state(module: nn.Module, *, keep: bool, copy: bool = True) -> dict[str, Tensor]:
    """Every parameter and buffer in memory, by name; empty unless `keep`.

    Every process must call this together, one of them to keep the result. Without `copy` a tensor that lies in the
    CPU's memory is returned itself, and must not change while the result is in use.
    """
    return _in_memory(module.state_dict(), keep=keep, copy=copy)


def load_model(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the result of `model_state` into the model, in place; each process takes its shards.

    Raises:
        UserError: when the tensors are of another model.
    """
    own = module.state_dict()
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise UserError("the checkpoint is of another network; use another --out, or the code that wrote it")
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(sharded_like(tensors[name], target))


def optimizer_state(
    module: nn.Module, optimizer: Optimizer, *, keep: bool, copy: bool = True
) -> dict[str, dict[str, Any]]:
    """The optimizer's state in memory, by parameter name; `keep` and `copy` are those of `model_state`.

    Rates and decay are not part of it: they follow from recipe and step.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    state: dict[str, dict[str, Any]] = {}
    for parameter in _parameters(optimizer):
        values = optimizer.state.get(parameter, {})
        tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        tensors = _in_memory(tensors, keep=keep, copy=copy)
        if keep and values:
            rest = {key: value for key, value in values.items() if not isinstance(value, Tensor)}
            state[names[parameter]] = {**rest, **tensors}
    return state


def load_optimizer(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the result of `optimizer_state` into the optimizer, on the devices of the parameters and in their shards."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    by_number = {
        number: {key: _like_parameter(value, parameter) for key, value in state[names[parameter]].items()}
        for number, parameter in enumerate(_parameters(optimizer))
        if names[parameter] in state
    }
    optimizer.load_state_dict({"state": by_number, "param_groups": optimizer.state_dict()["param_groups"]})


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether the shards in this process contain no NaN and no infinity; waits for the device."""
    parts = (local(tensor) for tensor in tensors if tensor.is_floating_point())
    # Both extremes of a tensor with a NaN are NaN. To find them takes a twentieth of the time of `isfinite`.
    return all(math.isfinite(extreme) for part in parts if part.numel() for extreme in torch.aminmax(part))


def optimizer_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor of the optimizer's state."""
    return [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _in_memory(tensors: Mapping[str, Tensor], *, keep: bool, copy: bool) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())  # one at a time: one device may be too small for all of a sharded model
        if keep:
            kept[name] = full.to("cpu", copy=copy)
    return kept


def _like_parameter(value: Any, parameter: nn.Parameter) -> Any:
    """The value, sharded as the parameter is when it has its shape; counters are left whole."""
    same = isinstance(value, Tensor) and value.shape == parameter.shape
    return sharded_like(value, parameter) if same else value
