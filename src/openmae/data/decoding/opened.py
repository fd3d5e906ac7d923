"""An opened image, and the reasons for which images are refused."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openmae.data.memory import memory_of_a_worker

Pixels = NDArray[Any]
PixelType = Literal["uint8", "uint16", "float32"]
Pages = Literal["auto", "channels", "images", "first"]
Nodata = float | Literal["auto", "none"]

LARGEST: dict[str, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
"""The value of full brightness, by type; floats are used as they are."""
SHRINKS = (8, 4, 2, 1)
DAMAGED = "damaged or cut short"

# Larger declared sizes are attacks or mistakes, unless the user says otherwise. Telephones take 200 megapixels.
MAX_PIXELS = 200_000_000
# The most bytes of the decoded pixels; it grows with the permitted number of pixels.
MAX_BYTES = 2**30
# Smaller images are decoded without a look at the free memory.
LARGE_BYTES = 64 << 20
# A decoder keeps its own copy of the pixels, and conversion makes another.
COPIES = 3
# The most scratch memory that a thread keeps; larger images are decoded into new memory.
MAX_SCRATCH_BYTES = 32 << 20


class BadImage(Exception):
    """An image that cannot be decoded; the message says why."""


class PixelFormat(NamedTuple):
    """How many channels a pixel has, and how each of them is stored."""

    channels: int = 3
    kind: PixelType = "uint8"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read where they themselves leave it open.

    Args:
        pages: of a TIFF with several pages of one size: "channels" of one picture, "images" of their own (which
            `openmae.data.pages` takes apart; elsewhere the first), or the "first" alone; "auto" trusts OME and ImageJ.
        nodata: the value of pixels that hold no data; "auto" is the value that a GeoTIFF names, "none" is no value. NaN
            is no data in any case.
        max_pixels: larger images are refused.
        channels: how many are expected; decides what the axes of an array are where its shape does not.
    """

    pages: Pages = "auto"
    nodata: Nodata = "auto"
    max_pixels: int = MAX_PIXELS
    channels: int | None = None

    def nodata_of(self, named: float | None) -> float | None:
        """The value without meaning in a file that names this one."""
        if self.nodata == "auto":
            return named
        return None if self.nodata == "none" else float(self.nodata)


AS_USUAL = Reading()


class Scratch(threading.local):
    """Memory that a thread decodes one image after another into: new pages cost a fifth of the time of decoding."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def buffer(self, size: int) -> Pixels | None:
        """At least `size` bytes, which the next image overwrites; None when `size` is too much to keep."""
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
        stored: channels and type in the file, before any conversion.
        description: format and mode, such as "JPEG RGB".
        load: decodes the pixels; takes (wanted, shrink, scratch) as `decode` does.
        shrinks: whether it can be decoded at a smaller size.
        orientation: 1 … 8, as EXIF numbers the turns that make the stored pixels upright.
        alpha: whether the last channel is alpha.
        nodata: the value of pixels that hold no data. As float32, which `stored` is then, they become NaN.
    """

    height: int
    width: int
    stored: PixelFormat
    description: str
    load: Callable[[PixelFormat, int, Scratch | None], Pixels]
    shrinks: bool = False
    orientation: int = 1
    alpha: bool = False
    nodata: float | None = None

    @property
    def colours(self) -> int:
        """The number of channels without alpha."""
        return self.stored.channels - self.alpha

    def decode(self, wanted: PixelFormat, *, shrink: int = 1, scratch: Scratch | None = None) -> Pixels:
        """All pixels [H, W, C] in the wanted format.

        Args:
            wanted: grey and colour are converted to each other, uint8 to uint16, and alpha is dropped; any other
                conversion is refused.
            shrink: 1, 2, 4 or 8; a JPEG may come back smaller by that factor, which is cheaper than resizing it.
            scratch: memory for the pixels, from callers that need them only until they decode the next image.

        Raises:
            BadImage: when the pixels end too early, are corrupt, or cannot be converted to the wanted format.
        """
        with errors_as_bad_image():
            return self.load(wanted, shrink, scratch)


@contextmanager
def errors_as_bad_image() -> Iterator[None]:
    """Turn every exception in the block into a BadImage that says why."""
    try:
        with warnings.catch_warnings():
            # Ignored: corrupt EXIF or ICC blocks do not change the pixels, and `require_sane_size` checks sizes.
            warnings.simplefilter("ignore")
            # Not ignored: it cannot check the size of an image within an image, such as a PNG in an icon.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except BadImage:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage("so many pixels that it could be a decompression bomb") from error
    except MemoryError as error:
        raise BadImage("there is not enough memory") from error
    except Exception as error:  # decoders raise nearly anything on damaged input
        text = str(error)
        what = text if any(map(str.isalpha, text)) else f"{type(error).__name__} {text}".strip()
        raise BadImage(f"{DAMAGED} ({what})") from error


def require_sane_size(height: int, width: int, stored: PixelFormat, reading: Reading = AS_USUAL) -> None:
    """Raise BadImage when the declared size is empty, larger than permitted, or more than the memory holds."""
    require_permitted_size(height, width, stored, reading)
    require_memory(
        height * width * pixel_bytes(stored), reading, f"{width}x{height} pixels of {stored.channels} channels"
    )


def require_permitted_size(height: int, width: int, stored: PixelFormat, reading: Reading) -> None:
    """Raise BadImage when the declared size is empty, or has more pixels than permitted."""
    if height < 1 or width < 1:
        raise BadImage(f"its header claims {width}x{height} pixels")
    if height * width > reading.max_pixels:
        raise BadImage(
            f"{width}x{height} pixels of {stored.channels} channels, which could be a decompression bomb; see "
            "--max-pixels"
        )


def require_memory(size: int, reading: Reading, what: str) -> None:
    """Raise BadImage when `size` bytes of decoded pixels are more than permitted, or than this process may take."""
    if size > MAX_BYTES * max(1, reading.max_pixels / MAX_PIXELS):
        raise BadImage(f"{what}, which could be a decompression bomb; see --max-pixels")
    if size > LARGE_BYTES and COPIES * size > (free := memory_of_a_worker()):
        raise BadImage(
            f"{what}, for which there is not enough memory ({COPIES * size / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB "
            "free for each worker)"
        )


def pixel_bytes(stored: PixelFormat) -> int:
    return stored.channels * np.dtype(stored.kind).itemsize
