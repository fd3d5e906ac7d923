"""Checkpoints: a directory of safetensors and JSON with a manifest of hashes; written atomically, read verified."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor

MODEL, EMA, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
TEMPORARY_PREFIX, DOOMED_PREFIX = ".writing-", ".deleting-"
CHUNK_BYTES = 2**18  # what is read is hashed and compared while it lies in the processor's cache
SPACE_TO_SPARE = 16 * 2**20  # bytes left for logs and curves
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors says what the system said
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
    tensors, scalars = _split_optimizer(checkpoint.optimizer)
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
        _read_back_text(temporary / MANIFEST, manifest)
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
            _save(file, contents, own)
            # Hashed in a thread, for what is asked to stop has little time: beside the disk's work on this file, or, if
            # it has to come back from the disk, beside the writing of the next one.
            if not read_back:
                hashes[name] = threads.submit(_sha256_of, file, contents, given_up)
            sync_file(file)
            if read_back:
                hashes[name] = threads.submit(_read_back, file, contents, own, given_up)
            _unless(given_up)
        write_text(temporary / STATE, state)
        hashes[STATE] = threads.submit(_read_back_text, temporary / STATE, state)
    return {name: hashed.result() for name, hashed in hashes.items()}


def _unless(given_up: Callable[[], bool]) -> None:
    if given_up():
        raise GivenUp


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


def _read_back(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], given_up: Callable[[], bool]
) -> str:
    """The SHA-256 of what the disk gives back; Damaged unless it is these tensors and this metadata."""
    _forget_cached(file)
    digest = hashlib.sha256()
    try:
        with safe_open(file, framework="pt") as written, file.open("rb") as bytes_of:
            same = (
                set(written.keys()) == set(tensors)
                and (written.metadata() or {}) == metadata
                and all(_alike(written.get_slice(name), tensor) for name, tensor in tensors.items())
            )
            if same:
                digest.update(_header(bytes_of))
                same = all(_comes_next(tensors[name], bytes_of, digest, given_up) for name in written.offset_keys())
    except SafetensorError:
        same = False
    if not same:
        raise Damaged(f"{file.name} did not come back from the disk as it was written")
    return digest.hexdigest()


def _sha256_of(file: Path, tensors: Mapping[str, Tensor], given_up: Callable[[], bool]) -> str:
    """The SHA-256 of a file with these tensors, which is there but for what the system still holds."""
    with safe_open(file, framework="pt") as written, file.open("rb") as bytes_of:
        digest = hashlib.sha256(_header(bytes_of))
        for name in written.offset_keys():
            _unless(given_up)
            digest.update(_bytes_of(tensors[name]).data)
    return digest.hexdigest()


def _header(bytes_of: BufferedReader) -> bytes:
    """safetensors' own, with its length."""
    length = bytes_of.read(8)
    return length + bytes_of.read(int.from_bytes(length, "little"))


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Shape (bytes), in memory of the CPU."""
    found: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _read_back_text(file: Path, text: str) -> str:
    """The SHA-256 of what the disk gives back; Damaged unless it is this text."""
    _forget_cached(file)
    came_back = file.read_bytes()
    if came_back != text.encode():
        raise Damaged(f"{file.name} did not come back from the disk as it was written")
    return hashlib.sha256(came_back).hexdigest()


def _forget_cached(file: Path) -> None:
    """Have the next one who reads the file, which has been synced, ask the disk."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _alike(written: Any, tensor: Tensor) -> bool:
    return (written.get_dtype(), written.get_shape()) == (_name_of(tensor.dtype), list(tensor.shape))


@functools.cache
def _name_of(dtype: torch.dtype) -> str:
    """What safetensors calls it, such as F32."""
    header = save({"empty": torch.empty(0, dtype=dtype)})[8:]
    return str(json.loads(header)["empty"]["dtype"])


def _comes_next(
    tensor: Tensor, bytes_of: BufferedReader, digest: "hashlib._Hash", given_up: Callable[[], bool]
) -> bool:
    """Whether the next bytes are the tensor's: bytes, for NaN is not equal to itself. Adds them to the digest."""
    expected = _bytes_of(tensor)
    buffer = memoryview(bytearray(min(CHUNK_BYTES, len(expected))))
    for start in range(0, len(expected), CHUNK_BYTES):
        _unless(given_up)
        part = expected[start : start + CHUNK_BYTES]
        came_back = buffer[: bytes_of.readinto(buffer[: len(part)])]
        digest.update(came_back)
        # In numpy, in the one thread that this runs in: torch would start more, which the training needs.
        if not np.array_equal(np.frombuffer(came_back, np.uint8), part):
            return False
    return True


def _delete(path: Path) -> None:
    """Delete a checkpoint such that a crash on the way leaves no half of it under its name."""
    doomed = path.with_name(f"{DOOMED_PREFIX}{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


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
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
    _save(temporary, tensors, metadata)
    sync_file(temporary)
    temporary.rename(path)
    sync_directory(path.parent)


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file, not synced; an OSError, as from any other file, when the disk refuses."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path, metadata=dict(metadata) or None)  # safetensors cannot read {} with {} back
    except SafetensorError as error:
        number = OS_ERROR.search(str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """One text file, synced to disk; visible under its name only when it is complete."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    temporary.write_text(text, encoding="utf-8")
    sync_file(temporary)
    temporary.rename(path)
    sync_directory(path.parent)


def _split_optimizer(state: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
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


def _join_optimizer(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    state: dict[str, dict[str, Any]] = {parameter: dict(values) for parameter, values in scalars.items()}
    for name, tensor in tensors.items():
        parameter, key = name.split(":", 1)
        state.setdefault(parameter, {})[key] = tensor
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
