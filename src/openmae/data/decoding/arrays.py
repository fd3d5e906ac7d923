"""TIFF files, of any depth and number of bands, and .npy arrays."""

import io
import logging

import numpy as np
import tifffile

from openmae.data.decoding.conversion import (
    as_channels,
    as_type,
    make_upright,
    plain_numbers,
    require_convertible,
    type_of,
)
from openmae.data.decoding.opened import DAMAGED, BadImage, OpenedImage, PixelFormat, Pixels, Scratch, require_sane_size
from openmae.data.decoding.pictures import ORIENTATION, open_with_pillow

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of becomes a BadImage here


def open_tiff(data: bytes) -> OpenedImage:
    """Read a TIFF header. Pillow decodes ordinary pictures, tifffile deep and multi-band ones."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        size = height, width = page.imagelength, page.imagewidth
        require_sane_size(height, width, PixelFormat(page.samplesperpixel))
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
        # Pillow decodes 8-bit grey, colour and colour with alpha; palette, CMYK, YCbCr and CIELAB at any depth.
        layouts = {(0, 1, ()), (1, 1, ()), (2, 3, ()), (2, 4, (1,)), (2, 4, (2,))}
        layout = (page.photometric, page.samplesperpixel, tuple(page.extrasamples))
        if (page.dtype in (np.uint8, bool) and layout in layouts) or page.photometric in (3, 5, 6, 8):
            return open_with_pillow(data)
        bands = page.samplesperpixel
        stored = PixelFormat(bands, type_of(page.dtype))
        # The stored type, which is allocated first, may be wider than the type that we keep.
        require_sane_size(height, width, PixelFormat(bands * max(1, page.dtype.itemsize // 4), stored.kind))
        if page.imagedepth != 1:
            raise BadImage(f"a volume of {page.imagedepth} slices, not a picture")
        orientation = page.tags.valueof(ORIENTATION, 1)
        inverted = page.photometric == 0 and page.dtype in (np.uint8, np.uint16)
        planar = page.planarconfig == 2 and bands > 1

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(stored, wanted, alpha=False)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pixels = file.pages.first.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if planar else pixels.reshape(*size, bands)
        if inverted:
            pixels = np.iinfo(pixels.dtype).max - pixels
        pixels = as_channels(make_upright(plain_numbers(pixels), int(orientation)), wanted.channels)
        return as_type(pixels, wanted.kind)

    described = f"TIFF {bands}x{page.dtype}"
    if orientation in range(5, 9):
        height, width = width, height
    return OpenedImage(
        height=height, width=width, stored=stored, description=described, load=load, orientation=int(orientation)
    )


def open_array(data: bytes) -> OpenedImage:
    """Read the header of an .npy file of plain numbers. A file that would need unpickling is refused."""
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
    stored = PixelFormat(channels, type_of(dtype))
    require_sane_size(height, width, PixelFormat(channels * max(1, dtype.itemsize // 4), stored.kind))
    start, count = file.tell(), height * width * channels
    if len(data) - start < count * dtype.itemsize:
        raise BadImage(f"{DAMAGED} (the array is truncated)")

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(stored, wanted, alpha=False)
        numbers = np.frombuffer(data, dtype, count, start)
        pixels = numbers.reshape(shape, order="F" if fortran_order else "C").reshape(height, width, channels)
        return as_type(as_channels(plain_numbers(pixels), wanted.channels), wanted.kind)

    return OpenedImage(height=height, width=width, stored=stored, description=f"NPY {channels}x{dtype}", load=load)
