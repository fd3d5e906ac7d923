"""Image bytes to arrays. What cannot be decoded in full is refused, never guessed."""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from openmae.data.jpeg_scans import is_arithmetic, lacks_scans
from openmae.data.png_chunks import read_chunks

Pixels = NDArray[Any]
PixelType = Literal["uint8", "uint16", "float32"]

# The formats that Pillow may try. Left out are those that start another program (EPS) or only name other files.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF"),
    *("JPEG2000", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS", "ICO"),
)
# Pillow's modes by the number of channels, and the modes that can become 2 or 4 channels without inventing any.
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
WITH_ALPHA = {2: ("LA", "La"), 4: ("RGBA", "RGBa", "PA")}
DEEP_MODES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I;16N": "uint16", "I": "float32", "F": "float32"}
LARGEST: dict[str, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
"""What full brightness is, by type; floats are taken as they are."""

# Declared sizes beyond these are attacks or mistakes. The first is where Pillow warns of a decompression bomb.
MAX_PIXELS = 89_478_485
MAX_BYTES = 2**30
# What compressed texts and profiles of a PNG may inflate to, all together.
MAX_TEXT_BYTES = 2**23
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow
DAMAGED = "damaged or cut short"
# A JPEG with padding before its end marker is whole, though the decoder remarks on it.
HARMLESS = "before marker 0xd9"
ORIENTATION = 0x0112
SHRINKS = (8, 4, 2, 1)
# How files of the commonest formats begin: one of these that cannot be opened is damaged, rather than something else.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"\0\0\0\x0cjP  ")
AVIF = (b"ftypavif", b"ftypavis")

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it remarks on is refused here, with a reason


# What a thread keeps for decoding; larger images get memory of their own.
MAX_SCRATCH_BYTES = 32 << 20


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


class BadImage(Exception):
    """An image that cannot be decoded; the message is the reason, for people."""


class PixelFormat(NamedTuple):
    """How many channels a pixel has, and how each of them is stored."""

    channels: int = 3
    kind: PixelType = "uint8"


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

    def decode(self, wanted: PixelFormat, *, shrink: int = 1, scratch: Scratch | None = None) -> Pixels:
        """All pixels [H, W, C] in the wanted format.

        Args:
            wanted: colour becomes grey and grey colour, alpha is dropped; nothing else is invented or thrown away.
            shrink: 1, 2, 4 or 8; a JPEG may come back smaller by that factor, which is cheaper than resizing it.
            scratch: where the pixels may lie, for callers that are done with them before they decode another image.

        Raises:
            BadImage: when the pixels end too early, are corrupt, or cannot be had in the wanted format.
        """
        with _reasons():
            return self.load(wanted, shrink, scratch)


def decode(data: bytes, wanted: PixelFormat) -> Pixels:
    """Decode to [H, W, C], upright; see `open_image` and `OpenedImage.decode`."""
    return open_image(data).decode(wanted)


def open_image(data: bytes) -> OpenedImage:
    """Read the header of an encoded image, or of an .npy array [H, W] or [H, W, C].

    Raises:
        BadImage: when the bytes are no image, or claim a size that only an attack would have.
    """
    with _reasons():
        if data.startswith(b"\x93NUMPY"):
            return _open_array(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _open_tiff(data)
        if data.startswith(b"\x89PNG"):
            return _open_png(data)
        return _open_with_pillow(data)


def reason(error: BadImage | OSError) -> str:
    """Why an image cannot be read, without its name, which stands beside it."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


@contextmanager
def _reasons() -> Iterator[None]:
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


def _pillow_image(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        known = data.startswith(SIGNATURES) or data[4:12] in AVIF
        raise BadImage(f"{DAMAGED} (nothing can be read of it)" if known else "not an image") from error


def _open_with_pillow(data: bytes) -> OpenedImage:
    image = _pillow_image(data)
    stored = _stored_format(image)
    _require_sane(image.height, image.width, stored)
    orientation = _orientation(image)
    # Of a TIFF Pillow gives the upright size, and turns the pixels by itself.
    turned = orientation >= 5 and image.format != "TIFF"
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    load: Callable[[PixelFormat, int, Scratch | None], Pixels]
    shrinks = False
    if image.format in ("JPEG", "MPO"):
        if is_arithmetic(data):
            raise BadImage("a JPEG with arithmetic coding, in which missing data cannot be noticed")
        if lacks_scans(data):
            raise BadImage(f"{DAMAGED} (scans are missing)")
        shrinks = image.mode in ("L", "RGB")
        load = partial(_load_jpeg, data, image.size, image.mode, orientation, stored)
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


@cache
def _formats() -> list[str]:
    """The permitted formats that this Pillow has, HEIF among them when its plug-in is installed."""
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    except ImportError:
        pass
    Image.init()
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES
    return [name for name in FORMATS if name in Image.OPEN]


def _orientation(image: Image.Image) -> int:
    """1 … 8 as EXIF numbers them; 1 where the block is damaged, for the pixels are not."""
    try:
        # That of PNG files would decode all pixels to look for a block behind them.
        value = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _stored_format(image: Image.Image) -> PixelFormat:
    if image.mode in DEEP_MODES:
        # Pillow opens a PGM of 16 bits in a mode of 32.
        return PixelFormat(1, "uint16" if image.format == "PPM" or DEEP_MODES[image.mode] == "uint16" else "float32")
    if image.mode in ("1", "L"):
        return PixelFormat(1)
    if image.mode == "P":
        return PixelFormat(4 if "transparency" in image.info else 3)
    return PixelFormat(next((n for n, modes in WITH_ALPHA.items() if image.mode in modes), 3))


def _require_sane(height: int, width: int, stored: PixelFormat) -> None:
    if height < 1 or width < 1:
        raise BadImage(f"it says that it is {width}x{height} pixels large")
    size = height * width * stored.channels * np.dtype(stored.kind).itemsize
    if height * width > MAX_PIXELS or size > MAX_BYTES:
        raise BadImage(f"{width}x{height} pixels of {stored.channels} channels, which could be a decompression bomb")


def _load_jpeg(
    data: bytes,
    size: tuple[int, int],
    mode: str,
    orientation: int,
    stored: PixelFormat,
    wanted: PixelFormat,
    shrink: int,
    scratch: Scratch | None,
) -> Pixels:
    """A JPEG through libjpeg-turbo, which unlike Pillow tells when data in the middle are missing."""
    _require_convertible(stored, wanted, alpha=True)
    if mode == "CMYK":
        shrink, colours, channels = 1, "CMYK", 4
    else:
        colours, channels = ("GRAY", 1) if wanted.channels == 1 else ("RGB", 3)
    width, height = size
    decode_jpeg = partial(
        simplejpeg.decode_jpeg,
        data,
        colours,
        min_height=-(-height // shrink),
        min_width=-(-width // shrink),
        min_factor=shrink,
        buffer=scratch.room(height * width * channels) if scratch is not None else None,
    )
    try:
        pixels = decode_jpeg()
    except ValueError as error:
        if HARMLESS not in str(error):
            raise
        pixels = decode_jpeg(strict=False)
    if mode == "CMYK":  # whose inks such files store inverted, as Photoshop does
        image = Image.fromarray(255 - pixels, "CMYK").convert(MODES[wanted.channels])
        pixels = np.asarray(image).reshape(height, width, wanted.channels)
    return _as_type(_turn(pixels, orientation), wanted.kind)


def _load_with_pillow(
    image: Image.Image,
    orientation: int,
    stored: PixelFormat,
    wanted: PixelFormat,
    _shrink: int,
    _scratch: Scratch | None,
) -> Pixels:
    _require_convertible(stored, wanted, alpha=True)
    image.load()
    upright = ImageOps.exif_transpose(image) if orientation > 1 else image
    if upright.mode in DEEP_MODES:
        pixels = np.asarray(upright)[:, :, None]
        pixels = pixels.astype(stored.kind)
        return _as_type(_as_channels(pixels, wanted.channels), wanted.kind)
    if wanted.channels not in MODES:
        raise BadImage(_other_channels(stored.channels, wanted.channels))
    mode = MODES[wanted.channels]
    try:
        converted = upright if upright.mode == mode else upright.convert(mode)
    except ValueError as error:
        raise BadImage(f"no way to make {mode} of {upright.mode} pixels") from error
    pixels = np.asarray(converted).reshape(upright.height, upright.width, wanted.channels)
    return _as_type(pixels, wanted.kind)


def _open_png(data: bytes) -> OpenedImage:
    """A PNG through libpng: Pillow keeps 8 of 16 bits of colour, and blackens what a stream that ends early lacks."""
    image = _pillow_image(data)
    channels = {b"\x10\x02": 3, b"\x10\x04": 2, b"\x10\x06": 4}.get(data[24:26])
    stored = PixelFormat(channels, "uint16") if channels else _stored_format(image)
    height, width = image.height, image.width
    _require_sane(height, width, stored)
    chunks = read_chunks(data)
    if chunks.exif is not None:
        image.info["exif"] = chunks.exif
    orientation = _orientation(image)

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        _require_convertible(stored, wanted, alpha=True)
        pixels = imagecodecs.png_decode(chunks.pixels)
        # Transparency of grey levels becomes a channel that `stored` does not count.
        pixels = pixels.reshape(*pixels.shape[:2], -1)[:, :, : stored.channels]
        return _as_type(_as_channels(_turn(pixels, orientation), wanted.channels), wanted.kind)

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


def _open_tiff(data: bytes) -> OpenedImage:
    """TIFF: ordinary pictures through Pillow, deep and multi-band ones through tifffile."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        size = height, width = page.imagelength, page.imagewidth
        _require_sane(height, width, PixelFormat(page.samplesperpixel))
        if page.dtype is None:
            raise BadImage(f"samples of {page.bitspersample} bits")
        starts, sizes = page.dataoffsets, page.databytecounts
        if (
            not starts
            or len(starts) != len(sizes)
            or any(
                start <= 0 or size <= 0 or start + size > len(data) for start, size in zip(starts, sizes, strict=True)
            )
        ):
            raise BadImage(f"{DAMAGED} (strips or tiles are missing)")
        # Grey, colour, colour with alpha; palette, CMYK, YCbCr and CIELAB are Pillow's at any depth.
        layouts = {(0, 1, ()), (1, 1, ()), (2, 3, ()), (2, 4, (1,)), (2, 4, (2,))}
        layout = (page.photometric, page.samplesperpixel, tuple(page.extrasamples))
        if (page.dtype in (np.uint8, bool) and layout in layouts) or page.photometric in (3, 5, 6, 8):
            return _open_with_pillow(data)
        bands = page.samplesperpixel
        stored = PixelFormat(bands, _type_of(page.dtype))
        # The size that will be allocated is that of the stored type, not of ours.
        _require_sane(height, width, PixelFormat(bands * max(1, page.dtype.itemsize // 4), stored.kind))
        if page.imagedepth != 1:
            raise BadImage(f"a volume of {page.imagedepth} slices, not a picture")
        orientation = page.tags.valueof(ORIENTATION, 1)
        inverted = page.photometric == 0 and page.dtype in (np.uint8, np.uint16)
        planar = page.planarconfig == 2 and bands > 1

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        _require_convertible(stored, wanted, alpha=False)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pixels = file.pages.first.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if planar else pixels.reshape(*size, bands)
        if inverted:
            pixels = np.iinfo(pixels.dtype).max - pixels
        pixels = _as_channels(_turn(_plain(pixels), int(orientation)), wanted.channels)
        return _as_type(pixels, wanted.kind)

    described = f"TIFF {bands}x{page.dtype}"
    if orientation in range(5, 9):
        height, width = width, height
    return OpenedImage(
        height=height, width=width, stored=stored, description=described, load=load, orientation=int(orientation)
    )


def _open_array(data: bytes) -> OpenedImage:
    """An .npy file of plain numbers; those that would need unpickling are refused."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise BadImage(f"an .npy file of version {version[0]}.{version[1]}")
    shape, fortran_order, dtype = read_header[version](file)
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadImage(f"an array of {dtype}, not of numbers")
    if len(shape) not in (2, 3):
        raise BadImage(f"an array of shape {shape}, not [height, width] or [height, width, channels]")
    height, width, channels = (*shape, 1)[:3]
    stored = PixelFormat(channels, _type_of(dtype))
    _require_sane(height, width, PixelFormat(channels * max(1, dtype.itemsize // 4), stored.kind))
    start, count = file.tell(), height * width * channels
    if len(data) - start < count * dtype.itemsize:
        raise BadImage(f"{DAMAGED} (the array is truncated)")

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        _require_convertible(stored, wanted, alpha=False)
        numbers = np.frombuffer(data, dtype, count, start)
        pixels = numbers.reshape(shape, order="F" if fortran_order else "C").reshape(height, width, channels)
        return _as_type(_as_channels(_plain(pixels), wanted.channels), wanted.kind)

    return OpenedImage(height=height, width=width, stored=stored, description=f"NPY {channels}x{dtype}", load=load)


def _type_of(dtype: np.dtype[Any]) -> PixelType:
    """The type in which numbers of `dtype` are kept: all but bytes and 16-bit words become single precision."""
    return {"uint8": "uint8", "bool": "uint8", "uint16": "uint16"}.get(dtype.name, "float32")  # type: ignore[return-value]


def _plain(pixels: Pixels) -> Pixels:
    """One of the three types, in this machine's byte order; bits become black and white."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    plain = pixels.astype(_type_of(pixels.dtype), copy=False)
    if plain.dtype == np.float32 and not np.isfinite(plain).all():
        raise BadImage("some of its values are not finite")
    return plain


def _require_convertible(stored: PixelFormat, wanted: PixelFormat, *, alpha: bool) -> None:
    """Raise BadImage where a conversion would lose or invent something; `alpha` says that an even channel is alpha."""
    if stored.kind != wanted.kind and (stored.kind, wanted.kind) != ("uint8", "uint16"):
        raise BadImage(f"{stored.kind} pixels, which would not survive as {wanted.kind}; see --pixel-type")
    colours = stored.channels - 1 if alpha and stored.channels in (2, 4) else stored.channels
    if stored.channels != wanted.channels and not (colours in (1, 3) and wanted.channels in (1, 3)):
        raise BadImage(_other_channels(stored.channels, wanted.channels))


def _other_channels(stored: int, wanted: int) -> str:
    return f"{stored} channels instead of {wanted}; see --channels"


def _as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey to colour, colour to grey, and alpha away; only where `_require_convertible` permits it."""
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


def _as_type(pixels: Pixels, kind: PixelType) -> Pixels:
    if pixels.dtype == np.uint8 and kind == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)  # 255 becomes 65535
    return pixels


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
