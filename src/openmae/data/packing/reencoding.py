"""Encode one image for `openmae pack`: upright, no larger than training needs, in a format that decodes quickly."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import imagecodecs
import numpy as np
import simplejpeg

from openmae.data.decoding import AS_USUAL, OpenedImage, PixelFormat, Pixels, Reading, open_image
from openmae.data.decoding.arrays import encode_array
from openmae.data.transforms import resize
from openmae.errors import UserError

PackFormat = Literal["auto", "jpeg", "raw"]
# With "auto", images up to this side are raw: raw decodes faster than JPEG, and they take little space anyway.
SMALL = 64
LARGEST_JPEG = 65_500  # pixels of a side, the limit of libjpeg
# Descriptions of JPEGs that may be copied as they are.
COPIED = ("JPEG L", "JPEG RGB")


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """How images are stored.

    Args:
        short_side: pixels that the short side keeps; smaller images stay as they are.
        quality: of JPEG, 1 … 100.
        format: "jpeg", "raw", or "auto": raw for images of up to 64 pixels, else JPEG. Images that JPEG cannot store
            (other depths or numbers of channels) are always raw, and images with alpha are always PNG.
        reading: how the files are read where they leave it open.
    """

    short_side: int = 288
    quality: int = 90
    format: PackFormat = "auto"
    reading: Reading = AS_USUAL

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise UserError(f"--short-side is {self.short_side}; give the pixels that training needs, such as 288")
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality is {self.quality}; give 1 … 100, such as 90")
        if self.format not in get_args(PackFormat):
            raise UserError(f"--format is {self.format!r}; choose one of {', '.join(get_args(PackFormat))}")


class Reencoded(NamedTuple):
    """Encoded bytes, the extension of their format, and how the pixels are stored."""

    extension: str
    data: bytes
    stored: PixelFormat


def reencode(data: bytes, settings: PackSettings) -> Reencoded:
    """Decode an image in full and encode it anew; a JPEG that is upright and small enough is copied byte for byte.

    Raises:
        BadImage: when it cannot be decoded to its end.
    """
    image = open_image(data, settings.reading)
    pixels = image.decode(image.stored)
    size = reduced_size(image.height, image.width, settings.short_side)
    extension = _extension(image, size, settings)
    if extension == "jpg" and image.description in COPIED and image.orientation == 1 and size == pixels.shape[:2]:
        return Reencoded(extension, data, image.stored)
    encode = {"jpg": _encode_jpeg, "png": _encode_png, "npy": _encode_array}[extension]
    pixels = np.ascontiguousarray(resize(pixels, size, "bicubic"))
    return Reencoded(extension, encode(pixels, settings.quality), image.stored)


def reduced_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with the short side at most `short_side`, in the same proportion.

    >>> reduced_size(600, 1000, 288), reduced_size(100, 50, 288)
    ((288, 480), (100, 50))
    """
    factor = min(1, short_side / min(height, width))
    return round(height * factor), round(width * factor)


def _extension(image: OpenedImage, size: tuple[int, int], settings: PackSettings) -> str:
    if image.alpha:
        return "png"  # an .npy array cannot mark its last channel as alpha
    if image.stored.kind != "uint8" or image.stored.channels not in (1, 3):
        return "npy"
    small = settings.format == "auto" and max(size) <= SMALL
    return "npy" if settings.format == "raw" or small or max(size) > LARGEST_JPEG else "jpg"


def _encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    # Colour at half resolution, as cameras store it: fewer bytes, and faster to decode.
    colours = ("GRAY", "Gray") if pixels.shape[2] == 1 else ("RGB", "420")
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality, *colours)
    return encoded


def _encode_png(pixels: Pixels, _quality: int) -> bytes:
    return bytes(imagecodecs.png_encode(pixels))


def _encode_array(pixels: Pixels, _quality: int) -> bytes:
    return encode_array(pixels)
