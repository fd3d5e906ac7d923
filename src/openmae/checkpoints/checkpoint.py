"""A checkpoint: a directory of safetensors and JSON with a manifest of hashes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

MODEL, EMA, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
DIRECTORY_NAME = re.compile(r"step-\d{8,}")


class Damaged(Exception):
    """The files of a checkpoint do not match its manifest; the message says which."""


class GivenUp(Exception):
    """A checkpoint was not written to its end, because it is not needed any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A run at one step, in memory, the same whatever strategy trained it.

    Args:
        step: how many steps the run has made.
        model: parameters and buffers by name.
        ema: those of the averaged model, where the recipe asks for one.
        optimizer: the optimizer's state, by parameter name.
        pending_losses: the losses of the steps since the last log line, which the next line averages.
        skipped_in_a_row: how many of the latest steps were skipped because they were not finite.
        numerics: versions and hardware that decide the last bits of a loss.
        scaler: the state of fp16's gradient scaler.
    """

    step: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None = None
    optimizer: Mapping[str, Mapping[str, Any]]
    pending_losses: Sequence[float] = ()
    skipped_in_a_row: int = 0
    numerics: Mapping[str, Any] = field(default_factory=dict)
    scaler: Mapping[str, Any] | None = None


def directory_name(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint, from the name of its directory."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint directories, newest first, unverified."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and DIRECTORY_NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)
