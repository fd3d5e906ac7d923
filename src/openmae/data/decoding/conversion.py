"""Conversion of channels, pixel type and orientation. A conversion that would lose or invent data is refused."""

from typing import Any

import numpy as np

from openmae.data.decoding.opened import BadImage, PixelFormat, Pixels, PixelType

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow


def require_convertible(stored: PixelFormat, wanted: PixelFormat, *, alpha: bool) -> None:
    """Raise BadImage when conversion would lose or invent data. With `alpha`, the last of 2 or 4 channels is alpha."""
    if stored.kind != wanted.kind and (stored.kind, wanted.kind) != ("uint8", "uint16"):
        raise BadImage(f"{stored.kind} pixels, which would not survive as {wanted.kind}; see --pixel-type")
    colours = stored.channels - 1 if alpha and stored.channels in (2, 4) else stored.channels
    if stored.channels != wanted.channels and not (colours in (1, 3) and wanted.channels in (1, 3)):
        raise BadImage(other_channels(stored.channels, wanted.channels))


def other_channels(stored: int, wanted: int) -> str:
    return f"{stored} channels instead of {wanted}; see --channels"


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


def plain_numbers(pixels: Pixels) -> Pixels:
    """Convert to one of the three pixel types, in this machine's byte order; booleans become 0 and 255."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    plain = pixels.astype(type_of(pixels.dtype), copy=False)
    if plain.dtype == np.float32 and not np.isfinite(plain).all():
        raise BadImage("some of its values are not finite")
    return plain
