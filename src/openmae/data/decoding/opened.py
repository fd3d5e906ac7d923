"""What an opened image is, which ones are refused, and why."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]
PixelType = Literal["uint8", "uint16", "float32"]

LARGEST: dict[str, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
"""What full brightness is, by type; floats are taken as they are."""
SHRINKS = (8, 4, 2, 1)
DAMAGED = "damaged or cut short"

# Declared sizes beyond these are attacks or mistakes. The first is where Pillow warns of a decompression bomb.
MAX_PIXELS = 89_478_485
MAX_BYTES = 2**30
# What a thread keeps for decoding; larger images get memory of their own.
MAX_SCRATCH_BYTES = 32 << 20


class BadImage(Exception):
    """An image that cannot be decoded; the message is the reason, for people."""


class PixelFormat(NamedTuple):
    """How many channels a pixel has, and how each of them is stored."""

    channels: int = 3
    kind: PixelType = "uint8"


class Scratch(threading.local):
    """Memory that images are decoded into one after the other: fresh pages from the system cost a fifth of decoding."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def room(self, size: int) -> Pixels | None:
        """At least `size` bytes, which the next image will overwrite; None where that is too much to keep."""
        if size > MAX_SCRATCH_BYTES:
            return None
        if size > self._bytes.size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes


@dataclass(frozen=True, kw_only=True)
class OpenedImage:
    """An image whose header has been read.

    Args:
        height, width: in pixels, upright as the EXIF orientation says.
        stored: its own channels and type, before any conversion.
        description: format and mode, such as "JPEG RGB", for people.
        load: (format, shrink, scratch) to pixels.
        shrinks: whether it can be decoded smaller than it is.
        orientation: 1 … 8 as EXIF numbers them: how the stored pixels are turned to be upright.
        alpha: whether the last channel is one.
    """

    height: int
    width: int
    stored: PixelFormat
    description: str
    load: Callable[[PixelFormat, int, Scratch | None], Pixels]
    shrinks: bool = False
    orientation: int = 1
    alpha: bool = False

    @property
    def colours(self) -> int:
        """How many channels there are to train on: alpha is none."""
        return self.stored.channels - self.alpha

    def decode(self, wanted: PixelFormat, *, shrink: int = 1, scratch: Scratch | None = None) -> Pixels:
        """All pixels [H, W, C] in the wanted format.

        Args:
            wanted: colour becomes grey and grey colour, alpha is dropped; nothing else is invented or thrown away.
            shrink: 1, 2, 4 or 8; a JPEG may come back smaller by that factor, which is cheaper than resizing it.
            scratch: where the pixels may lie, for callers that are done with them before they decode another image.

        Raises:
            BadImage: when the pixels end too early, are corrupt, or cannot be had in the wanted format.
        """
        with reasons():
            return self.load(wanted, shrink, scratch)


@contextmanager
def reasons() -> Iterator[None]:
    """Whatever goes wrong inside becomes a BadImage that says why."""
    try:
        with warnings.catch_warnings():
            # Corrupt EXIF or ICC blocks do not change the pixels; sizes are checked here, not by Pillow.
            warnings.simplefilter("ignore")
            # … except those of images within images, such as a PNG in an icon.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except BadImage:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage("so many pixels that it could be a decompression bomb") from error
    except MemoryError as error:
        raise BadImage("more memory is needed than there is") from error
    except Exception as error:  # decoders raise nearly anything on damaged input
        text = str(error)
        what = text if any(map(str.isalpha, text)) else f"{type(error).__name__} {text}".strip()
        raise BadImage(f"{DAMAGED} ({what})") from error


def require_sane(height: int, width: int, stored: PixelFormat) -> None:
    if height < 1 or width < 1:
        raise BadImage(f"it says that it is {width}x{height} pixels large")
    size = height * width * stored.channels * np.dtype(stored.kind).itemsize
    if height * width > MAX_PIXELS or size > MAX_BYTES:
        raise BadImage(f"{width}x{height} pixels of {stored.channels} channels, which could be a decompression bomb")
