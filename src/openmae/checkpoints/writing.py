"""Writing a checkpoint: it appears whole, or the ones before stay."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from openmae.checkpoints.checkpoint import (
    EMA,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Checkpoint,
    directory_name,
    list_checkpoints,
)
from openmae.checkpoints.optimizer_state import split_optimizer
from openmae.checkpoints.tensor_files import (
    raise_if_given_up,
    read_back_tensors,
    read_back_text,
    save_tensors,
    sha256_of,
)
from openmae.files import TEMPORARY_PREFIX, sync_directory, sync_file, write_text

DOOMED_PREFIX = ".deleting-"
SPACE_TO_SPARE = 16 * 2**20  # bytes left for logs and curves


def write_checkpoint(
    folder: Path,
    step: int,
    checkpoint: Checkpoint,
    *,
    metadata: Mapping[str, str],
    keep: int,
    in_a_hurry: bool = False,
    given_up: Callable[[], bool] = lambda: False,
) -> Path:
    """Write `folder/step-XXXXXXXX`, then delete all but the `keep` newest up to it.

    What is left of a later step goes too: it was damaged, or the run would have continued from it.

    Everything is written and synced under a temporary name on the same file system, read back and compared with what is
    in memory, before one rename makes it visible; the hashes are of what came back. A crash leaves the old checkpoints
    or the new one, never a half, and an old one is deleted only once the new one is known to be good.

    Args:
        folder: of all checkpoints of the run.
        step: how many steps it has seen.
        checkpoint: everything; nobody may change it meanwhile.
        metadata: of the files of weights.
        keep: how many to keep, with this one.
        in_a_hurry: neither read it back nor delete older ones; whoever continues from it verifies it anyway.
        given_up: asked now and then on the way, whether nobody needs it any more.

    Raises:
        GivenUp: when nobody does; what was there before is untouched.
        OSError: when the disk refuses; what was there before is untouched.
        Damaged: when what comes back from the disk is not what was written.
    """
    _make_directory(folder)
    for prefix in (TEMPORARY_PREFIX, DOOMED_PREFIX):
        for leftover in folder.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
    tensors, scalars = split_optimizer(checkpoint.optimizer)
    # The largest first: it is hashed while the others are written.
    files = {OPTIMIZER: tensors, MODEL: checkpoint.model} | (
        {EMA: checkpoint.ema} if checkpoint.ema is not None else {}
    )
    _require_space(folder, sum(tensor.nbytes for contents in files.values() for tensor in contents.values()))

    temporary = folder / f"{TEMPORARY_PREFIX}{directory_name(step)}"
    state = json.dumps({**checkpoint.state, "step": step, "optimizer": scalars}, indent=1, allow_nan=False)
    try:
        hashes = _fill(temporary, files, state, metadata, read_back=not in_a_hurry, given_up=given_up)
        manifest = json.dumps({"sha256": hashes}, indent=1)
        write_text(temporary / MANIFEST, manifest)
        read_back_text(temporary / MANIFEST, manifest)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the space
        raise

    final = folder / directory_name(step)
    if final.exists():
        _delete(final)
    temporary.rename(final)
    sync_directory(folder)
    if in_a_hurry:
        return final
    existing = list_checkpoints(folder)
    kept = existing[existing.index(final) :][:keep]
    with contextlib.suppress(OSError):  # the new one is safe; what could not be deleted is next time
        for path in existing:
            if path not in kept:
                _delete(path)
    return final


def _fill(
    temporary: Path,
    files: Mapping[str, Mapping[str, Tensor]],
    state: str,
    metadata: Mapping[str, str],
    *,
    read_back: bool,
    given_up: Callable[[], bool],
) -> dict[str, str]:
    """Write and sync the files; the SHA-256 of each.

    With `read_back` only once all that comes back from the disk is known to be what is in memory.
    """
    temporary.mkdir()
    hashes: dict[str, Future[str]] = {}
    with ThreadPoolExecutor(len(files) + 1) as threads:
        for name, contents in files.items():
            own = {} if name == OPTIMIZER else metadata
            file = temporary / name
            save_tensors(file, contents, own)
            # Hashed in a thread, for what is asked to stop has little time: beside the disk's work on this file, or, if
            # it has to come back from the disk, beside the writing of the next one.
            if not read_back:
                hashes[name] = threads.submit(sha256_of, file, contents, given_up)
            sync_file(file)
            if read_back:
                hashes[name] = threads.submit(read_back_tensors, file, contents, own, given_up)
            raise_if_given_up(given_up)
        write_text(temporary / STATE, state)
        hashes[STATE] = threads.submit(read_back_text, temporary / STATE, state)
    return {name: hashed.result() for name, hashed in hashes.items()}


def _make_directory(folder: Path) -> None:
    """Make it and those above it, such that a power cut does not take it away again with all that is inside."""
    if not folder.is_dir():
        _make_directory(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_directory(folder.parent)


def _require_space(folder: Path, size: int) -> None:
    """Raise OSError(ENOSPC) where `size` bytes of tensors would not fit, rather than find out after writing most."""
    free = shutil.disk_usage(folder).free
    if free < size + SPACE_TO_SPARE:
        problem = f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.0f} MB to write, {free / 1e6:,.0f} MB free"
        raise OSError(errno.ENOSPC, problem, str(folder))


def _delete(path: Path) -> None:
    """Delete a checkpoint such that a crash on the way leaves no half of it under its name."""
    doomed = path.with_name(f"{DOOMED_PREFIX}{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)
