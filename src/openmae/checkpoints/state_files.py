"""The parts of a checkpoint that are not weights: the optimizer's tensors, and state.json for all other values."""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from openmae.checkpoints.checkpoint import Checkpoint


def split_state(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], str]:
    """The optimizer's tensors by "parameter:key", and the text of state.json.

    Raises:
        ValueError: when a value is not finite, which JSON cannot say.
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, values in checkpoint.optimizer.items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}:{key}"] = value
            else:
                scalars.setdefault(parameter, {})[key] = value
    state = {
        "pending_losses": list(checkpoint.pending_losses),
        "skipped_in_a_row": checkpoint.skipped_in_a_row,
        "numerics": dict(checkpoint.numerics),
        **({"scaler": dict(checkpoint.scaler)} if checkpoint.scaler is not None else {}),
        "step": checkpoint.step,
        "optimizer": scalars,
    }
    return tensors, json.dumps(state, indent=1, allow_nan=False)


def join_state(
    text: str, optimizer: Mapping[str, Tensor], *, model: Mapping[str, Tensor], ema: Mapping[str, Tensor] | None
) -> Checkpoint:
    """The checkpoint with this text in state.json and these tensors; undoes `split_state`."""
    state = json.loads(text)
    joined: dict[str, dict[str, Any]] = {parameter: dict(values) for parameter, values in state["optimizer"].items()}
    for name, tensor in optimizer.items():
        parameter, key = name.split(":", 1)
        joined.setdefault(parameter, {})[key] = tensor
    return Checkpoint(
        step=state["step"],
        model=model,
        ema=ema,
        optimizer=joined,
        pending_losses=state["pending_losses"],
        skipped_in_a_row=state["skipped_in_a_row"],
        numerics=state["numerics"],
        scaler=state.get("scaler"),
    )
