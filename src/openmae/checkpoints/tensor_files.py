"""Files of tensors: written, synced, and read back from the disk."""

import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from openmae.checkpoints.checkpoint import Damaged, GivenUp
from openmae.checkpoints.digest import with_digest
from openmae.files import replacing

METADATA = "__metadata__"  # safetensors' name for them in the header
CHUNK_BYTES = 2**18  # small enough to be hashed and compared in the processor's cache
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # the system's error number in a message of safetensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file with its digest, synced to disk; visible under its name only when it is complete."""
    with replacing(path) as temporary:
        save_tensors(temporary, tensors, with_digest(tensors, metadata))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file, not synced; an OSError, as from any other file, when the disk refuses."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)  # as the umask says: safetensors lets nobody else read its files
    try:
        save_file(contiguous, path, metadata=dict(metadata) or None)  # safetensors cannot read {} with {} back
        path.chmod(permissions)
        if len(metadata) > 1:
            _sort_metadata(path)
    except SafetensorError as error:
        number = OS_ERROR.search(str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, in place.

    safetensors writes them in another order in each process, and equal runs would end with files of other bytes.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        header[METADATA] = dict(sorted(header[METADATA].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length, "the same header in another order"
        file.seek(8)
        file.write(text.ljust(length))  # safetensors itself fills the header up with spaces


def read_back_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], given_up: Callable[[], bool]
) -> str:
    """The SHA-256 of the bytes that the disk gives back; Damaged unless they are these tensors and this metadata."""
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


def sha256_of(file: Path, tensors: Mapping[str, Tensor], given_up: Callable[[], bool]) -> str:
    """The SHA-256 of a file with these tensors, which need not be synced yet."""
    with safe_open(file, framework="pt") as written, file.open("rb") as bytes_of:
        digest = hashlib.sha256(_header(bytes_of))
        for name in written.offset_keys():
            raise_if_given_up(given_up)
            digest.update(_bytes_of(tensors[name]).data)
    return digest.hexdigest()


def raise_if_given_up(given_up: Callable[[], bool]) -> None:
    """Raise GivenUp when the checkpoint is not needed any more."""
    if given_up():
        raise GivenUp


def _header(bytes_of: BufferedReader) -> bytes:
    """The first bytes of a safetensors file: the length of its header, and the header."""
    length = bytes_of.read(8)
    return length + bytes_of.read(int.from_bytes(length, "little"))


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Shape (bytes), in memory of the CPU."""
    found: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def read_back_text(file: Path, text: str) -> str:
    """The SHA-256 of the bytes that the disk gives back; Damaged unless they are this text."""
    _forget_cached(file)
    came_back = file.read_bytes()
    if came_back != text.encode():
        raise Damaged(f"{file.name} did not come back from the disk as it was written")
    return hashlib.sha256(came_back).hexdigest()


def _forget_cached(file: Path) -> None:
    """Drop a synced file from the system's cache, so that the next read comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _alike(written: Any, tensor: Tensor) -> bool:
    return (written.get_dtype(), written.get_shape()) == (_name_of(tensor.dtype), list(tensor.shape))


@functools.cache
def _name_of(dtype: torch.dtype) -> str:
    """safetensors' name for the type, such as F32."""
    header = save({"empty": torch.empty(0, dtype=dtype)})[8:]
    return str(json.loads(header)["empty"]["dtype"])


def _comes_next(
    tensor: Tensor, bytes_of: BufferedReader, digest: "hashlib._Hash", given_up: Callable[[], bool]
) -> bool:
    """Whether the next bytes are the tensor's; adds them to the digest. It compares bytes: NaN is not equal to NaN."""
    expected = _bytes_of(tensor)
    buffer = memoryview(bytearray(min(CHUNK_BYTES, len(expected))))
    for start in range(0, len(expected), CHUNK_BYTES):
        raise_if_given_up(given_up)
        part = expected[start : start + CHUNK_BYTES]
        came_back = buffer[: bytes_of.readinto(buffer[: len(part)])]
        digest.update(came_back)
        # numpy compares in this thread; torch would start more threads and take processors from the training.
        if not np.array_equal(np.frombuffer(came_back, np.uint8), part):
            return False
    return True
