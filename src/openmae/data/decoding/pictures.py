"""The usual picture formats: JPEG through libjpeg-turbo, all others through Pillow."""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from openmae.data.decoding.conversion import as_channels, as_type, make_upright, other_channels, require_convertible
from openmae.data.decoding.jpeg_scans import require_all_scans
from openmae.data.decoding.opened import (
    AS_USUAL,
    DAMAGED,
    BadImage,
    OpenedImage,
    PixelFormat,
    Pixels,
    Reading,
    Scratch,
    require_memory,
    require_permitted_size,
    require_sane_size,
)

# The formats that Pillow may open. Left out are those that start another program (EPS) or only name other files.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF"),
    *("JPEG2000", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS", "ICO"),
)
# Pillow's mode for each number of channels.
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# The modes that have alpha, by the number of their channels.
WITH_ALPHA = {2: ("LA", "La"), 4: ("RGBA", "RGBa", "PA")}
DEEP_MODES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I;16N": "uint16", "I": "float32", "F": "float32"}
# The most bytes that all compressed texts and profiles of a PNG may inflate to.
MAX_TEXT_BYTES = 2**23
# The end of the decoder's warning about padding before the end marker; such a JPEG is whole.
HARMLESS = "before marker 0xd9"
ORIENTATION = 0x0112
# The first bytes of the commonest formats. A file with these that cannot be opened is a damaged image.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"\0\0\0\x0cjP  ")
AVIF = (b"ftypavif", b"ftypavis")


def open_with_pillow(data: bytes, reading: Reading = AS_USUAL, *, frame: int = 0) -> OpenedImage:
    """Read the header of any format that Pillow knows; of a TIFF, the header of that page."""
    image = pillow_image(data)
    if frame:
        image.seek(frame)
    stored = stored_format(image)
    jpeg = image.format in ("JPEG", "MPO")
    # A JPEG may be decoded smaller than it is.
    (require_permitted_size if jpeg else require_sane_size)(image.height, image.width, stored, reading)
    orientation = orientation_of(image)
    # Pillow itself turns a TIFF upright, and gives its upright size.
    turned = orientation >= 5 and image.format != "TIFF"
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    load: Callable[[PixelFormat, int, Scratch | None], Pixels]
    shrinks = False
    if jpeg:
        frame_header = require_all_scans(data)
        shrinks = image.mode in ("L", "RGB")
        # Of a progressive JPEG the decoder keeps all coefficients, two bytes each, until the last scan.
        kept = 2 * frame_header.components * image.width * image.height if frame_header.progressive else 0
        load = partial(_load_jpeg, data, image.size, image.mode, orientation, stored, reading, kept)
    else:
        load = partial(_load_with_pillow, image, orientation, stored)
    description = f"{image.format} {image.mode}"
    return OpenedImage(
        height=height,
        width=width,
        stored=stored,
        description=description,
        load=load,
        shrinks=shrinks,
        orientation=orientation,
        alpha=stored.channels in (2, 4),
    )


def pillow_image(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return _open_large(data)
    except UnidentifiedImageError as error:
        known = data.startswith(SIGNATURES) or data[4:12] in AVIF
        raise BadImage(f"{DAMAGED} (not even its header can be read)" if known else "not an image") from error


def _open_large(data: bytes) -> Image.Image:
    """Open an image of more pixels than Pillow lets pass, without changing that limit for the whole program.

    Raises:
        BadImage: for an icon, whose header does not say how large the image in it is.
    """
    for name in _formats():
        factory, accepts = Image.OPEN[name]
        if name != "ICO" and accepts is not None and accepts(data[:16]) is True:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Pillow: it is of another format then
                return factory(io.BytesIO(data), "")
    raise BadImage("so many pixels that it could be a decompression bomb")


@cache
def _formats() -> list[str]:
    """The permitted formats that this Pillow supports; HEIF is one when its plug-in is installed."""
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    except ImportError:
        pass
    Image.init()
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES
    return [name for name in FORMATS if name in Image.OPEN]


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 … 8; 1 when the EXIF block is damaged, because the pixels still are good."""
    try:
        # The base method: that of PNG images would decode all pixels to find an EXIF block behind them.
        value = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # the reader of EXIF raises nearly anything on a damaged block
        return 1
    return value if value in range(1, 9) else 1


def stored_format(image: Image.Image) -> PixelFormat:
    if image.mode in DEEP_MODES:
        # Pillow opens a 16-bit PGM in a 32-bit mode.
        return PixelFormat(1, "uint16" if image.format == "PPM" or DEEP_MODES[image.mode] == "uint16" else "float32")
    if image.mode in ("1", "L"):
        return PixelFormat(1)
    if image.mode == "P":
        return PixelFormat(4 if "transparency" in image.info else 3)
    return PixelFormat(next((n for n, modes in WITH_ALPHA.items() if image.mode in modes), 3))


def _load_jpeg(
    data: bytes,
    size: tuple[int, int],
    mode: str,
    orientation: int,
    stored: PixelFormat,
    reading: Reading,
    kept: int,
    wanted: PixelFormat,
    shrink: int,
    scratch: Scratch | None,
) -> Pixels:
    """Decode a JPEG with libjpeg-turbo, which, unlike Pillow, reports that data in the middle are missing."""
    require_convertible(stored, wanted, alpha=True)
    if mode == "CMYK":
        shrink, colours, channels = 1, "CMYK", 4
    else:
        colours, channels = ("GRAY", 1) if wanted.channels == 1 else ("RGB", 3)
    width, height = size
    scaled = -(-height // shrink) * -(-width // shrink) * channels
    require_memory(scaled + kept, reading, f"{width}x{height} pixels of {stored.channels} channels")
    decode_jpeg = partial(
        simplejpeg.decode_jpeg,
        data,
        colours,
        min_height=-(-height // shrink),
        min_width=-(-width // shrink),
        min_factor=shrink,
        buffer=scratch.buffer(height * width * channels) if scratch is not None else None,
    )
    try:
        pixels = decode_jpeg()
    except ValueError as error:
        if HARMLESS not in str(error):
            raise
        pixels = decode_jpeg(strict=False)
    if mode == "CMYK":  # JPEG files store inks inverted, as Photoshop does
        image = Image.fromarray(255 - pixels, "CMYK").convert(MODES[wanted.channels])
        pixels = np.asarray(image).reshape(height, width, wanted.channels)
    return as_type(make_upright(pixels, orientation), wanted.kind)


def _load_with_pillow(
    image: Image.Image,
    orientation: int,
    stored: PixelFormat,
    wanted: PixelFormat,
    _shrink: int,
    _scratch: Scratch | None,
) -> Pixels:
    require_convertible(stored, wanted, alpha=True)
    image.load()
    upright = ImageOps.exif_transpose(image) if orientation > 1 else image
    if upright.mode in DEEP_MODES:
        pixels = np.asarray(upright)[:, :, None]
        pixels = pixels.astype(stored.kind)
        return as_type(as_channels(pixels, wanted.channels), wanted.kind)
    if wanted.channels not in MODES:
        raise BadImage(other_channels(stored.channels, wanted.channels))
    mode = MODES[wanted.channels]
    try:
        converted = upright if upright.mode == mode else upright.convert(mode)
    except ValueError as error:
        raise BadImage(f"{upright.mode} pixels, which cannot be converted to {mode}") from error
    pixels = np.asarray(converted).reshape(upright.height, upright.width, wanted.channels)
    return as_type(pixels, wanted.kind)
