"""Reading a checkpoint: verified by the hashes of its manifest."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from openmae.checkpoints.checkpoint import EMA, MANIFEST, MODEL, OPTIMIZER, STATE, Checkpoint, Damaged, list_checkpoints
from openmae.checkpoints.state_files import join_state
from openmae.reporter import say


def newest_verified(folder: Path, report: Callable[[str], None] = say) -> Path | None:
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
    for name, expected in _hashes(path).items():
        if not (path / name).is_file():
            raise Damaged(f"{name} is missing")
        if _sha256(path / name) != expected:
            raise Damaged(f"{name} is not what was written")


def verify_file(file: Path) -> None:
    """Raise Damaged when a file of a checkpoint is not as it was written. A file that no manifest lists passes."""
    manifest = file.parent / MANIFEST
    if manifest.is_file() and _hashes(file.parent).get(file.name, "") not in ("", _sha256(file)):
        raise Damaged(f"{file.name} is not what was written")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a verified checkpoint, on the CPU."""
    ema = load_file(path / EMA) if (path / EMA).exists() else None
    optimizer = load_file(path / OPTIMIZER)
    return join_state((path / STATE).read_text(), optimizer, model=load_file(path / MODEL), ema=ema)


def _hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of each file, as the manifest of a checkpoint lists them."""
    try:
        hashes = json.loads((path / MANIFEST).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{MANIFEST} is missing or unreadable") from error
    if not isinstance(hashes, dict) or not {MODEL, OPTIMIZER, STATE} <= set(hashes) <= {MODEL, EMA, OPTIMIZER, STATE}:
        raise Damaged(f"{MANIFEST} lists other files than a checkpoint has")
    return hashes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
