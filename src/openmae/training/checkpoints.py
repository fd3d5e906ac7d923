"""Checkpoints: a directory of safetensors and JSON with a manifest of hashes; written atomically, read verified."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

MODEL, EMA, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
TEMPORARY_PREFIX = ".writing-"
DIRECTORY_NAME = re.compile(r"step-\d{8,}")


class Damaged(Exception):
    """A checkpoint whose files do not match its manifest; the message says which."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds. `optimizer` is empty for weights alone."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[int, dict[str, Any]]
    state: dict[str, Any]


def directory_name(step: int) -> str:
    return f"step-{step:08d}"


def write_checkpoint(
    folder: Path, step: int, checkpoint: Checkpoint, *, metadata: Mapping[str, str], keep: int
) -> Path:
    """Write `folder/step-XXXXXXXX`, then delete all but the `keep` newest up to it.

    What is left of a later step goes too: it was damaged, or the run would have continued from it.

    Everything is written and synced under a temporary name on the same file system before one rename makes it visible,
    so a crash leaves the old checkpoints or the new one, never a half.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover)
    temporary = folder / f"{TEMPORARY_PREFIX}{directory_name(step)}"
    temporary.mkdir()
    write_tensors(temporary / MODEL, checkpoint.model, metadata)
    if checkpoint.ema is not None:
        write_tensors(temporary / EMA, checkpoint.ema, metadata)
    tensors, scalars = _split_optimizer(checkpoint.optimizer)
    write_tensors(temporary / OPTIMIZER, tensors, {})
    write_text(temporary / STATE, json.dumps({**checkpoint.state, "step": step, "optimizer": scalars}, indent=1))
    hashes = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
    write_text(temporary / MANIFEST, json.dumps({"sha256": hashes}, indent=1))
    _sync_directory(temporary)

    final = folder / directory_name(step)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    _sync_directory(folder)
    existing = list_checkpoints(folder)
    kept = existing[existing.index(final) :][:keep]
    for path in existing:
        if path not in kept:
            shutil.rmtree(path)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint directories, newest first, unverified."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and DIRECTORY_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def newest_verified(folder: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files match its manifest; damaged ones are reported and passed over."""
    for path in list_checkpoints(folder):
        try:
            verify(path)
        except Damaged as error:
            report(f"{path} is damaged ({error}) and is passed over")
        else:
            return path
    return None


def verify(path: Path) -> None:
    """Raise Damaged unless every file of the checkpoint is as it was written."""
    try:
        hashes = json.loads((path / MANIFEST).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} is missing or unreadable") from error
    if not isinstance(hashes, dict) or not {MODEL, OPTIMIZER, STATE} <= set(hashes) <= {MODEL, EMA, OPTIMIZER, STATE}:
        raise Damaged(f"{MANIFEST} lists other files than a checkpoint has")
    for name, expected in hashes.items():
        if not (path / name).is_file():
            raise Damaged(f"{name} is missing")
        if _sha256(path / name) != expected:
            raise Damaged(f"{name} is not what was written")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a verified checkpoint, on the CPU."""
    state = json.loads((path / STATE).read_text())
    optimizer = _join_optimizer(load_file(path / OPTIMIZER), state.pop("optimizer"))
    ema = load_file(path / EMA) if (path / EMA).exists() else None
    return Checkpoint(model=load_file(path / MODEL), ema=ema, optimizer=optimizer, state=state)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file, synced to disk; visible under its name only when it is complete."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, temporary, metadata=dict(metadata) or None)  # safetensors cannot read {} with {} back
    _sync_file(temporary)
    temporary.rename(path)


def write_text(path: Path, text: str) -> None:
    """One text file, synced to disk; visible under its name only when it is complete."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    temporary.write_text(text, encoding="utf-8")
    _sync_file(temporary)
    temporary.rename(path)


def optimizer_state(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The per-parameter state; rates and decay are not part of it, they follow from recipe and step."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return state


def restore_optimizer(optimizer: Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Put back what `optimizer_state` gave, onto the devices of the parameters."""
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _split_optimizer(state: Mapping[Any, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Tensors by "parameter.key", and what is no tensor, for JSON."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, values in state.items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}.{key}"] = value
            else:
                scalars.setdefault(str(parameter), {})[key] = value
    return tensors, scalars


def _join_optimizer(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {int(parameter): dict(values) for parameter, values in scalars.items()}
    for name, tensor in tensors.items():
        parameter, key = name.split(".", 1)
        state.setdefault(int(parameter), {})[key] = tensor
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds a NaN or an infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values() if tensor.is_floating_point())
