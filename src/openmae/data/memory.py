"""Memory that processes share, and how much memory is free."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def shared_memory(*shape: int, dtype: torch.dtype) -> Tensor:
    """Zeros in memory that is shared with a forked process, and with one that the tensor is sent to.

    On Linux the memory has no name. torch's own shared memory has a file in /dev/shm for a moment, which stays there
    for good when the process is killed in that moment. Memory without a name is not limited by the size of /dev/shm
    either, which is a few megabytes in containers.
    """
    size = math.prod(shape) * dtype.itemsize
    if not hasattr(os, "memfd_create") or not size:
        return torch.zeros(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
    file = os.memfd_create("openmae")
    try:
        os.ftruncate(file, size)
        # torch receives tensors by this private call, which duplicates the descriptor. The public `torch.from_file`
        # closes the file, so its tensors cannot be sent.
        storage = torch.UntypedStorage._new_shared_fd_cpu(file, size)  # type: ignore[attr-defined]
    finally:
        os.close(file)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload, no-any-return]


def available_memory() -> int:
    """Bytes that this machine, or the container that this process runs in, can use without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        return min(free, limit - used)
    except (OSError, ValueError):  # not in a container, or "max": no limit
        return free


def memory_of_a_worker() -> int:
    """The share of the available memory of each process of this machine that decodes images."""
    worker = get_worker_info()
    processes = (1 if worker is None else worker.num_workers) * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return available_memory() // processes
