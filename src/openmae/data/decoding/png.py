"""PNG through libpng. Pillow keeps only 8 of 16 bits of colour, and fills the missing part of a cut file with black."""

import imagecodecs

from openmae.data.decoding.conversion import as_channels, as_type, make_upright, require_convertible
from openmae.data.decoding.opened import (
    AS_USUAL,
    OpenedImage,
    PixelFormat,
    Pixels,
    Reading,
    Scratch,
    require_sane_size,
)
from openmae.data.decoding.pictures import orientation_of, pillow_image, stored_format
from openmae.data.decoding.png_chunks import read_chunks


def open_png(data: bytes, reading: Reading = AS_USUAL) -> OpenedImage:
    """Read the header of a PNG."""
    image = pillow_image(data)
    channels = {b"\x10\x02": 3, b"\x10\x04": 2, b"\x10\x06": 4}.get(data[24:26])
    stored = PixelFormat(channels, "uint16") if channels else stored_format(image)
    height, width = image.height, image.width
    require_sane_size(height, width, stored, reading)
    chunks = read_chunks(data)
    if chunks.exif is not None:
        image.info["exif"] = chunks.exif
    orientation = orientation_of(image)

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(stored, wanted, alpha=True)
        pixels = imagecodecs.png_decode(chunks.pixels)
        # A transparent grey level gives the decoded pixels an alpha channel that `stored` does not count.
        pixels = pixels.reshape(*pixels.shape[:2], -1)[:, :, : stored.channels]
        return as_type(as_channels(make_upright(pixels, orientation), wanted.channels), wanted.kind)

    upright = (width, height) if orientation >= 5 else (height, width)
    return OpenedImage(
        height=upright[0],
        width=upright[1],
        stored=stored,
        description="PNG 16-bit" if channels else f"PNG {image.mode}",
        load=load,
        orientation=orientation,
        alpha=stored.channels in (2, 4),
    )
