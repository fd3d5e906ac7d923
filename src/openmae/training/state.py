"""Tensors of a model and its optimizer in and out of the processes that train it, whole or in shards."""

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
    """The tensor itself, or all shards of it put together, which every process must ask for together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, target: Tensor) -> Tensor:
    """The tensor, which every process has whole, sharded like the target."""
    if not isinstance(target, DTensor):
        return tensor
    on_device = tensor.to(target.device)
    return distribute_tensor(on_device, target.device_mesh, target.placements, src_data_rank=None)


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """All parameters of a sharded model on every process, each of which may then call it as often as it likes."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.reshard()
        part.set_reshard_after_forward(part is not module, recurse=False)  # as `fully_shard` leaves it


def local(tensor: Tensor) -> Tensor:
    """What of the tensor this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def model_state(module: nn.Module, *, keep: bool, copy: bool = True) -> dict[str, Tensor]:
    """Every parameter and buffer in memory, by name; empty unless `keep`.

    Every process must call it together, one of them to keep the result. Without `copy` what lies in memory already is
    that itself: nobody may change it meanwhile.
    """
    return _in_memory(module.state_dict(), keep=keep, copy=copy)


def load_model(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put what `model_state` gave into the model, in place, each process its shards.

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
    """The optimizer's state in memory, by parameter name, as `model_state` gives that of the model.

    Rates and decay are not part of it, they follow from recipe and step.
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
    """Put what `optimizer_state` gave into the optimizer, onto the devices of the parameters, in their shards."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    by_number = {
        number: {key: _like_parameter(value, parameter) for key, value in state[names[parameter]].items()}
        for number, parameter in enumerate(_parameters(optimizer))
        if names[parameter] in state
    }
    optimizer.load_state_dict({"state": by_number, "param_groups": optimizer.state_dict()["param_groups"]})


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether what this process holds of the tensors has no NaN and no infinity."""
    parts = (local(tensor) for tensor in tensors if tensor.is_floating_point())
    # Both extremes of a tensor with a NaN are NaN. They take a twentieth of the time of asking each number.
    return all(math.isfinite(extreme) for part in parts if part.numel() for extreme in torch.aminmax(part))


def optimizer_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor of the optimizer's state."""
    return [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _in_memory(tensors: Mapping[str, Tensor], *, keep: bool, copy: bool) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())  # one at a time: not all of a sharded model fits into one device
        if keep:
            kept[name] = full.to("cpu", copy=copy)
    return kept


def _like_parameter(value: Any, parameter: nn.Parameter) -> Any:
    """State of the parameter's shape is sharded as it is; counters are not."""
    same = isinstance(value, Tensor) and value.shape == parameter.shape
    return sharded_like(value, parameter) if same else value
