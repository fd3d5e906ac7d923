"""A cache of the decoded images of a small set, in shared memory: each is decoded once for all epochs and workers."""

import os
from multiprocessing import Lock
from pathlib import Path

import numpy as np
import torch

from openmae.data.decoding import PixelFormat, Pixels
from openmae.data.memory import available_memory, shared_memory

# The part of the free memory that the caches of all processes of this machine may take.
SHARE = 0.25
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of the system, no file of ours


class PixelCache:
    """Decoded images in shared memory. The worker that is the first to read an image puts it there.

    Args:
        images: how many there are.
        capacity: bytes for all of them; an image that does not fit is decoded anew each time.
        pixel_format: of every image.
    """

    def __init__(self, images: int, capacity: int, pixel_format: PixelFormat) -> None:
        self.format = pixel_format
        self._arena = shared_memory(capacity, dtype=torch.uint8)
        self._places = shared_memory(images, 3, dtype=torch.int64)  # offset + 1, height, width
        self._used = shared_memory(1, dtype=torch.int64)
        self._lock = Lock()

    def get(self, image: int) -> Pixels | None:
        """The pixels [H, W, C] of an image, or None when it is not in the cache."""
        with self._lock:
            start, height, width = self._places[image].tolist()
        if not start:
            return None
        flat = self._arena.numpy()[start - 1 : start - 1 + height * width * self._pixel_size()]
        pixels: Pixels = flat.view(self.format.kind).reshape(height, width, self.format.channels)
        return pixels

    def put(self, image: int, pixels: Pixels) -> None:
        """Add the pixels of an image, unless it is there already or the cache is full."""
        flat = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        # Locked until all is written: another worker must see all of the pixels or none.
        with self._lock:
            start = int(self._used)
            if int(self._places[image, 0]) or start + flat.size > self._arena.numel():
                return
            self._arena.numpy()[start : start + flat.size] = flat
            self._used += flat.size + -flat.size % 8  # aligned for any type
            self._places[image] = torch.tensor([start + 1, *pixels.shape[:2]])

    def _pixel_size(self) -> int:
        return self.format.channels * np.dtype(self.format.kind).itemsize


def pixel_cache_bytes(processes: int = 1) -> int:
    """The most bytes that the cache of each of these processes on this machine may take."""
    available = available_memory()
    if SHARED_MEMORY.is_dir():  # small by default in containers
        status = os.statvfs(SHARED_MEMORY)
        available = min(available, status.f_bavail * status.f_frsize)
    return int(SHARE * available / processes)
