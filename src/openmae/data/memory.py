"""How much memory there is to keep images in, and memory that processes share."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor


def shared_memory(*shape: int, dtype: torch.dtype) -> Tensor:
    """Zeros that other processes see when they are sent there or forked.

    Where the system can, without a name: torch's own has one for a moment, and who is killed in that moment leaves it
    behind for good. Nor does it count against the few megabytes that containers have in /dev/shm.
    """
    size = math.prod(shape) * dtype.itemsize
    if not hasattr(os, "memfd_create") or not size:
        return torch.zeros(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
    file = os.memfd_create("openmae")
    try:
        os.ftruncate(file, size)
        # What torch does with the file of a tensor that it is sent; it duplicates the descriptor. What is public,
        # `torch.from_file`, closes the file, and such a tensor cannot be sent.
        storage = torch.UntypedStorage._new_shared_fd_cpu(file, size)  # type: ignore[attr-defined]
    finally:
        os.close(file)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload, no-any-return]


def available_memory() -> int:
    """Bytes that can be used without swapping, here or in the container that this runs in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        return min(free, limit - used)
    except (OSError, ValueError):  # no such container, or "max": no limit
        return free
