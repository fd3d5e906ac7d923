"""The state of an optimizer as tensors for safetensors and plain values for JSON."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def split_optimizer(state: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Tensors by "parameter:key", and what is no tensor, for JSON."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, values in state.items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}:{key}"] = value
            else:
                scalars.setdefault(parameter, {})[key] = value
    return tensors, scalars


def join_optimizer(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    state: dict[str, dict[str, Any]] = {parameter: dict(values) for parameter, values in scalars.items()}
    for name, tensor in tensors.items():
        parameter, key = name.split(":", 1)
        state.setdefault(parameter, {})[key] = tensor
    return state
