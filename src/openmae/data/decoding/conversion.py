"""Conversion of channels, pixel type and orientation. A conversion that would lose or invent data is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmae.data.decoding.opened import BadImage, OpenedImage, PixelFormat, Pixels, PixelType, Scratch

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow


def require_convertible(stored: PixelFormat, wanted: PixelFormat, *, alpha: bool, nodata: float | None = None) -> None:
    """Raise BadImage when conversion would lose or invent data.

    Args:
        stored: in the file.
        wanted: by the caller.
        alpha: whether the last of 2 or 4 channels is alpha.
        nodata: the value of pixels that hold no data: with one, any type becomes float32, which alone can mark them.
    """
    marked = nodata is not None and wanted.kind == "float32"
    if not marked and stored.kind != wanted.kind and (stored.kind, wanted.kind) != ("uint8", "uint16"):
        raise BadImage(f"{stored.kind} pixels, which would not survive as {wanted.kind}")
    colours = stored.channels - 1 if alpha and stored.channels in (2, 4) else stored.channels
    if stored.channels != wanted.channels and not (colours in (1, 3) and wanted.channels in (1, 3)):
        raise BadImage(other_channels(stored.channels, wanted.channels))


def other_channels(stored: int, wanted: int) -> str:
    return f"{stored} channels instead of {wanted}"


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert grey to colour or colour to grey, and drop alpha. Call `require_convertible` first."""
    stored = pixels.shape[2]
    if stored == channels:
        return pixels
    colours = pixels[:, :, : stored - 1] if stored in (2, 4) else pixels
    if colours.shape[2] == channels:
        return colours
    if channels == 3:
        return np.repeat(colours, 3, axis=2)
    grey = (colours.astype(np.float32) @ LUMA)[:, :, None]
    return (grey if colours.dtype == np.float32 else grey.round()).astype(colours.dtype)


def as_type(pixels: Pixels, kind: PixelType) -> Pixels:
    if pixels.dtype == np.uint8 and kind == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)  # 255 becomes 65535
    return pixels


def make_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def type_of(dtype: np.dtype[Any]) -> PixelType:
    """The pixel type that numbers of `dtype` are kept in: float32 for all but bool, uint8 and uint16."""
    if dtype.name in ("uint8", "bool"):
        return "uint8"
    return "uint16" if dtype.name == "uint16" else "float32"


def plain_numbers(
    pixels: Pixels, nodata: float | None = None, wanted: PixelType | None = None, *, inverted: bool = False
) -> Pixels:
    """Convert to one of the three pixel types, in this machine's byte order; booleans become 0 and 255.

    Args:
        pixels: as they are stored, of any type of numbers.
        nodata: the value of those that hold no data. They become NaN, and all others float32 of the same value.
        wanted: the type that the caller asked for. Any other than float32 cannot mark pixels without data.
        inverted: whether the lowest number is white.
    """
    missing = None if nodata is None else _equal(pixels, nodata)
    if inverted:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if missing is None:
        return _plain(pixels)
    if wanted != "float32":
        if missing.any():
            raise BadImage(
                f"pixels without data ({nodata:g}), which {wanted} cannot mark; use --pixel-type float32, or --nodata "
                "none if they are data"
            )
        return _plain(pixels)
    with np.errstate(over="ignore"):
        marked = pixels.astype(np.float32)
    marked[missing] = np.nan
    return _plain(marked)


def with_nodata(opened: OpenedImage, nodata: float | None) -> OpenedImage:
    """The image with the pixels of this value marked, channel by channel, before any channel is converted."""
    if nodata is None:
        return opened
    whole = opened.stored

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(whole, wanted, alpha=opened.alpha, nodata=nodata)
        pixels = plain_numbers(opened.load(whole, 1, None), nodata, wanted.kind)
        return as_type(as_channels(pixels, wanted.channels), wanted.kind)

    # A decoder that shrinks would mix them with the others.
    return replace(opened, stored=PixelFormat(whole.channels, "float32"), load=load, shrinks=False, nodata=nodata)


def _equal(pixels: Pixels, value: float) -> NDArray[np.bool_]:
    same: NDArray[np.bool_]
    if pixels.dtype.kind != "f":
        same = pixels == value
    else:
        with np.errstate(over="ignore"):  # a value in other digits, or of a wider type, may be the same
            same = pixels.astype(np.float32, copy=False) == np.float32(value)
    return same


def _plain(pixels: Pixels) -> Pixels:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    plain = pixels.astype(type_of(pixels.dtype), copy=False)
    if plain.dtype == np.float32 and np.isinf(plain).any():
        raise BadImage("some of its values are infinite")
    return plain
