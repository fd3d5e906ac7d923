"""Image bytes to arrays. An image that cannot be decoded in full is refused; no pixel is guessed."""

from openmae.data.decoding.arrays import open_array, open_tiff
from openmae.data.decoding.opened import (
    DAMAGED,
    LARGEST,
    SHRINKS,
    BadImage,
    OpenedImage,
    PixelFormat,
    Pixels,
    PixelType,
    Scratch,
    errors_as_bad_image,
)
from openmae.data.decoding.pictures import open_with_pillow
from openmae.data.decoding.png import open_png

__all__ = [
    "DAMAGED",
    "LARGEST",
    "SHRINKS",
    "BadImage",
    "OpenedImage",
    "PixelFormat",
    "PixelType",
    "Pixels",
    "Scratch",
    "decode",
    "open_image",
    "why_unreadable",
]


def decode(data: bytes, wanted: PixelFormat) -> Pixels:
    """Decode to [H, W, C], upright; see `open_image` and `OpenedImage.decode`."""
    return open_image(data).decode(wanted)


def open_image(data: bytes) -> OpenedImage:
    """Read the header of an encoded image, or of an .npy array [H, W] or [H, W, C].

    Raises:
        BadImage: when the bytes are no image, or their header claims a size that only an attack would.
    """
    with errors_as_bad_image():
        if data.startswith(b"\x93NUMPY"):
            return open_array(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return open_tiff(data)
        if data.startswith(b"\x89PNG"):
            return open_png(data)
        return open_with_pillow(data)


def why_unreadable(error: BadImage | OSError) -> str:
    """The reason why an image cannot be read. It does not name the image: the caller does."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
