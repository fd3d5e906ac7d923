"""Decoded images of a small set, kept in shared memory so that each is decoded once for all epochs and workers."""

import os
from multiprocessing import Lock
from pathlib import Path

import numpy as np
import torch

from openmae.data.decoding import PixelFormat, Pixels
from openmae.data.memory import available_memory, shared_memory

# Shares of the memory that is free now: what a held set may take, over all processes of this machine.
SHARE = 0.25
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where the system keeps it, not a file of ours


class HeldPixels:
    """An arena of decoded images, filled as they are read, by whichever worker reads them first.

    Args:
        images: how many there are.
        capacity: bytes for all of them; what does not fit is decoded anew each time.
        pixel_format: of every image.
    """

    def __init__(self, images: int, capacity: int, pixel_format: PixelFormat) -> None:
        self.format = pixel_format
        self._arena = shared_memory(capacity, dtype=torch.uint8)
        self._places = shared_memory(images, 3, dtype=torch.int64)  # offset + 1, height, width
        self._used = shared_memory(1, dtype=torch.int64)
        self._lock = Lock()

    def get(self, image: int) -> Pixels | None:
        """The pixels [H, W, C] of an image, or None when it is not held (yet)."""
        with self._lock:
            start, height, width = self._places[image].tolist()
        if not start:
            return None
        flat = self._arena.numpy()[start - 1 : start - 1 + height * width * self._pixel_size()]
        pixels: Pixels = flat.view(self.format.kind).reshape(height, width, self.format.channels)
        return pixels

    def put(self, image: int, pixels: Pixels) -> None:
        """Hold the pixels of an image, if there is room."""
        flat = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        # Under the lock to its end: another worker must see all of the pixels or none.
        with self._lock:
            start = int(self._used)
            if int(self._places[image, 0]) or start + flat.size > self._arena.numel():
                return
            self._arena.numpy()[start : start + flat.size] = flat
            self._used += flat.size + -flat.size % 8  # aligned for any type
            self._places[image] = torch.tensor([start + 1, *pixels.shape[:2]])

    def _pixel_size(self) -> int:
        return self.format.channels * np.dtype(self.format.kind).itemsize


def room_for_pixels(processes: int = 1) -> int:
    """Bytes that each of several processes on this machine may hold decoded images in."""
    available = available_memory()
    if SHARED_MEMORY.is_dir():  # small by default in containers
        status = os.statvfs(SHARED_MEMORY)
        available = min(available, status.f_bavail * status.f_frsize)
    return int(SHARE * available / processes)
