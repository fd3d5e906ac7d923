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
from openmae.checkpoints.save_mode import SaveMode
from openmae.checkpoints.state_files import split_state
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
    checkpoint: Checkpoint,
    *,
    metadata: Mapping[str, str],
    keep: int,
    mode: SaveMode = SaveMode.WAITED,
    given_up: Callable[[], bool] = lambda: False,
) -> Path:
    """Write `folder/step-XXXXXXXX`, then delete all but the `keep` newest up to it.

    Later steps that lie there are deleted, too: they are damaged, or the run would have continued from them.

    All files are written and synced under a temporary name on the same file system, read back and compared with the
    tensors in memory, before one rename makes them visible; the hashes are of the bytes that came back. After a crash
    the old checkpoints are there or the new one, never a half, and an old one is deleted only once the new one is known
    to be good.

    Args:
        folder: of all checkpoints of the run.
        checkpoint: its tensors must not change meanwhile.
        metadata: of the files of weights.
        keep: how many to keep, with this one.
        mode: BEFORE_EXIT leaves out the reading back and the deleting.
        given_up: asked now and then on the way; True when the checkpoint is not needed any more.

    Raises:
        GivenUp: when `given_up` says so; the checkpoints from before are untouched.
        OSError: when the disk refuses; they are untouched.
        Damaged: when the disk gives back other bytes than were written; they are untouched.
    """
    _make_directory(folder)
    _delete_leftovers(folder)
    optimizer, state = split_state(checkpoint)
    # The largest first: it is hashed while the others are written.
    files = {OPTIMIZER: optimizer, MODEL: checkpoint.model}
    if checkpoint.ema is not None:
        files[EMA] = checkpoint.ema
    _require_space(folder, sum(tensor.nbytes for contents in files.values() for tensor in contents.values()))

    final = folder / directory_name(checkpoint.step)
    temporary = folder / f"{TEMPORARY_PREFIX}{final.name}"
    try:
        hashes = _fill(temporary, files, state, metadata, read_back=mode is not SaveMode.BEFORE_EXIT, given_up=given_up)
        manifest = json.dumps({"sha256": hashes}, indent=1)
        write_text(temporary / MANIFEST, manifest)
        read_back_text(temporary / MANIFEST, manifest)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the space
        raise
    if final.exists():
        _delete(final)
    temporary.rename(final)
    sync_directory(folder)
    if mode is not SaveMode.BEFORE_EXIT:
        _delete_all_but(final, keep)
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

    With `read_back` the hashes are of the bytes that came back from the disk, which were equal to those in memory.
    """
    temporary.mkdir()
    hashes: dict[str, Future[str]] = {}
    with ThreadPoolExecutor(len(files) + 1) as threads:
        for name, contents in files.items():
            own = {} if name == OPTIMIZER else metadata
            file = temporary / name
            save_tensors(file, contents, own)
            # Hashed in a thread, because a process that was asked to stop has little time. The thread works beside the
            # disk's sync of this file or, if the bytes must come back from the disk first, beside the next file.
            if not read_back:
                hashes[name] = threads.submit(sha256_of, file, contents, given_up)
            sync_file(file)
            if read_back:
                hashes[name] = threads.submit(read_back_tensors, file, contents, own, given_up)
            raise_if_given_up(given_up)
        write_text(temporary / STATE, state)
        hashes[STATE] = threads.submit(read_back_text, temporary / STATE, state)
    return {name: hashed.result() for name, hashed in hashes.items()}


def _delete_leftovers(folder: Path) -> None:
    """Delete the unfinished checkpoints that a crash left."""
    for prefix in (TEMPORARY_PREFIX, DOOMED_PREFIX):
        for leftover in folder.glob(f"{prefix}*"):
            shutil.rmtree(leftover)


def _delete_all_but(newest: Path, keep: int) -> None:
    """Delete every checkpoint but `newest` and those before it, `keep` in all."""
    existing = list_checkpoints(newest.parent)
    kept = existing[existing.index(newest) :][:keep]
    with contextlib.suppress(OSError):  # the new one is safe; the next save deletes the rest
        for path in existing:
            if path not in kept:
                _delete(path)


def _make_directory(folder: Path) -> None:
    """Make the folder and those above it, each synced: a power cut must not delete them with all that is inside."""
    if not folder.is_dir():
        _make_directory(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_directory(folder.parent)


def _require_space(folder: Path, size: int) -> None:
    """Raise OSError(ENOSPC) where `size` bytes of tensors would not fit: better now than after most of the writing."""
    free = shutil.disk_usage(folder).free
    if free < size + SPACE_TO_SPARE:
        problem = f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.0f} MB to write, {free / 1e6:,.0f} MB free"
        raise OSError(errno.ENOSPC, problem, str(folder))


def _delete(path: Path) -> None:
    """Delete a checkpoint; a crash on the way leaves no half of it under its name."""
    doomed = path.with_name(f"{DOOMED_PREFIX}{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)
