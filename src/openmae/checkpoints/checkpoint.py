"""What a checkpoint is: a directory of safetensors and JSON with a manifest of hashes."""

import re
from pathlib import Path
from typing import Any, NamedTuple

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
    """A checkpoint whose files do not match its manifest; the message says which."""


class GivenUp(Exception):
    """A checkpoint that nobody needs any more was not written to its end."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds, the same whatever strategy trained it. `optimizer` is by parameter name."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, dict[str, Any]]
    state: dict[str, Any]


def directory_name(step: int) -> str:
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint directories, newest first, unverified."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and DIRECTORY_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)
