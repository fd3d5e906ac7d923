"""Image bytes to arrays. An image that cannot be decoded in full is refused; no pixel is guessed."""

from openmae.data.decoding.arrays import open_array
from openmae.data.decoding.conversion import with_nodata
from openmae.data.decoding.opened import (
    AS_USUAL,
    DAMAGED,
    LARGEST,
    MAX_PIXELS,
    SHRINKS,
    BadImage,
    Nodata,
    OpenedImage,
    Pages,
    PixelFormat,
    Pixels,
    PixelType,
    Reading,
    Scratch,
    errors_as_bad_image,
)
from openmae.data.decoding.pictures import open_with_pillow
from openmae.data.decoding.png import open_png
from openmae.data.decoding.tiff import TIFF_SIGNATURES, open_tiff

__all__ = [
    "AS_USUAL",
    "DAMAGED",
    "LARGEST",
    "MAX_PIXELS",
    "SHRINKS",
    "BadImage",
    "Nodata",
    "OpenedImage",
    "Pages",
    "PixelFormat",
    "PixelType",
    "Pixels",
    "Reading",
    "Scratch",
    "decode",
    "errors_as_bad_image",
    "open_image",
    "why_unreadable",
]


def decode(data: bytes, wanted: PixelFormat, reading: Reading = AS_USUAL) -> Pixels:
    """Decode to [H, W, C], upright; see `open_image` and `OpenedImage.decode`."""
    return open_image(data, reading).decode(wanted)


def open_image(data: bytes, reading: Reading = AS_USUAL) -> OpenedImage:
    """Read the header of an encoded image, or of an .npy array [H, W], [H, W, C] or [C, H, W].

    Raises:
        BadImage: when the bytes are no image, their header claims a size that only an attack would, or they may be read
            in several ways and `reading` does not say which.
    """
    with errors_as_bad_image():
        if data.startswith(b"\x93NUMPY"):
            return open_array(data, reading)
        if data[:4] in TIFF_SIGNATURES:
            return open_tiff(data, reading)
        opened = open_png(data, reading) if data.startswith(b"\x89PNG") else open_with_pillow(data, reading)
        return with_nodata(opened, reading.nodata_of(None))


def why_unreadable(error: BadImage | OSError) -> str:
    """The reason why an image cannot be read. It does not name the image: the caller does."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
