"""TIFF files of any depth, number of bands and number of pages."""

import io
import logging
from typing import Any

import numpy as np
import tifffile

from openmae.data.decoding.conversion import (
    as_channels,
    as_type,
    make_upright,
    plain_numbers,
    require_convertible,
    type_of,
    with_nodata,
)
from openmae.data.decoding.opened import (
    AS_USUAL,
    DAMAGED,
    BadImage,
    OpenedImage,
    PixelFormat,
    Pixels,
    Reading,
    Scratch,
    require_sane_size,
)
from openmae.data.decoding.pages import pages_of_picture
from openmae.data.decoding.pictures import ORIENTATION, open_with_pillow

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of becomes a BadImage here

# Pillow decodes 8-bit grey, colour and colour with alpha; palette, CMYK, YCbCr and CIELAB at any depth.
LAYOUTS_OF_PILLOW = {(0, 1, ()), (1, 1, ()), (2, 3, ()), (2, 4, (1,)), (2, 4, (2,))}
PHOTOMETRICS_OF_PILLOW = (3, 5, 6, 8)
GDAL_NODATA = 42113
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_tiff(data: bytes, reading: Reading = AS_USUAL, *, page: int | None = None) -> OpenedImage:
    """Read a TIFF header. Pillow decodes ordinary pictures, tifffile deep and multi-band ones.

    Args:
        data: the whole file.
        reading: how to read it where it leaves that open.
        page: take this page alone.
    """
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
        numbers = [page] if page is not None else pages_of_picture(file, reading.pages)
        first: Any = file.pages[numbers[0]]
        size = height, width = first.imagelength, first.imagewidth
        # Before any other page is looked at: it is of the same size.
        require_sane_size(height, width, PixelFormat(first.samplesperpixel * len(numbers)), reading)
        if first.dtype is None:
            raise BadImage(f"samples of {first.bitspersample} bits")
        for number in numbers:
            _require_strips(file.pages[number], len(data))
        nodata = reading.nodata_of(_named_nodata(first))
        layout = (first.photometric, first.samplesperpixel, tuple(first.extrasamples))
        for_pillow = (
            first.dtype in (np.uint8, bool) and layout in LAYOUTS_OF_PILLOW
        ) or first.photometric in PHOTOMETRICS_OF_PILLOW
        if for_pillow and len(numbers) == 1:
            return with_nodata(open_with_pillow(data, reading, frame=numbers[0]), nodata)
        if first.photometric in PHOTOMETRICS_OF_PILLOW:
            raise BadImage("pages in a palette or as inks, which cannot be channels; see --pages")
        bands = first.samplesperpixel * len(numbers)
        stored = PixelFormat(bands, type_of(first.dtype))
        # The stored type, which is allocated first, may be wider than the type that we keep.
        wide = bands * max(1, first.dtype.itemsize // 4)
        require_sane_size(height, width, PixelFormat(wide, "float32" if nodata is not None else stored.kind), reading)
        if first.imagedepth != 1:
            raise BadImage(f"a volume of {first.imagedepth} slices, not a picture")
        orientation = int(first.tags.valueof(ORIENTATION, 1))
        inverted = first.photometric == 0 and first.dtype in (np.uint8, np.uint16)

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(stored, wanted, alpha=False, nodata=nodata)
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
            parts = [_bands_last(file.pages[number], size) for number in numbers]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        plain = plain_numbers(pixels, nodata, wanted.kind, inverted=inverted)
        return as_type(as_channels(make_upright(plain, orientation), wanted.channels), wanted.kind)

    if orientation in range(5, 9):
        height, width = width, height
    return OpenedImage(
        height=height,
        width=width,
        stored=stored if nodata is None else PixelFormat(bands, "float32"),
        description=f"TIFF {bands}x{first.dtype}",
        load=load,
        orientation=orientation,
        nodata=nodata,
    )


def _bands_last(page: Any, size: tuple[int, int]) -> Pixels:
    """The samples of a page, [H, W, bands]."""
    pixels: Pixels = page.asarray()
    bands = page.samplesperpixel
    if page.planarconfig == 2 and bands > 1:
        return np.moveaxis(pixels, 0, -1)
    return pixels.reshape(*size, bands)


def _require_strips(page: Any, length: int) -> None:
    """Raise BadImage when the strips or tiles of a page are not all in a file of this length."""
    starts, sizes = page.dataoffsets, page.databytecounts
    if (
        not starts
        or len(starts) != len(sizes)
        or any(start <= 0 or size <= 0 or start + size > length for start, size in zip(starts, sizes, strict=True))
    ):
        raise BadImage(f"{DAMAGED} (strips or tiles are missing)")


def _named_nodata(page: Any) -> float | None:
    """The value that GDAL's tag names; None without one, and for NaN, which needs no name."""
    if GDAL_NODATA not in page.tags:
        return None
    try:
        value = float(str(page.tags.valueof(GDAL_NODATA)).strip("\0 "))
    except ValueError:
        return None
    return None if np.isnan(value) else value
