"""Arrays in .npy files, and which of their axes is which."""

import io

import numpy as np

from openmae.data.decoding.conversion import as_channels, as_type, plain_numbers, require_convertible, type_of
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

# More bands than this are no first axis of [channels, height, width].
FEW = 32
# A picture is rarely longer than this many times its width.
LONGEST = 2
# The channels of colour, and of colour with alpha.
COLOURS = (3, 4)
# Behind the numbers of an array that we wrote: its axes, where the shape itself does not say them.
CHANNELS_LAST = b"height, width, channels"


def open_array(data: bytes, reading: Reading = AS_USUAL) -> OpenedImage:
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
    start, count = file.tell(), int(np.prod(shape, dtype=object))
    end = start + count * dtype.itemsize
    first = len(shape) == 3 and data[end:] != CHANNELS_LAST and channels_first(shape, reading.channels)
    height, width, channels = (*shape[1:], shape[0]) if first else (*shape, 1)[:3]
    nodata = reading.nodata_of(None)
    stored = PixelFormat(channels, type_of(dtype))
    wide = channels * max(1, dtype.itemsize // 4)
    require_sane_size(height, width, PixelFormat(wide, "float32" if nodata is not None else stored.kind), reading)
    if len(data) < end:
        raise BadImage(f"{DAMAGED} (the array is truncated)")

    def load(wanted: PixelFormat, _shrink: int, _scratch: Scratch | None) -> Pixels:
        require_convertible(stored, wanted, alpha=False, nodata=nodata)
        numbers = np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran_order else "C")
        pixels = np.moveaxis(numbers, 0, -1) if first else numbers.reshape(height, width, channels)
        return as_type(as_channels(plain_numbers(pixels, nodata, wanted.kind), wanted.channels), wanted.kind)

    return OpenedImage(
        height=height,
        width=width,
        stored=stored if nodata is None else PixelFormat(channels, "float32"),
        description=f"NPY {channels}x{dtype}",
        load=load,
        nodata=nodata,
    )


def encode_array(pixels: Pixels) -> bytes:
    """[H, W, C] as an .npy file that is read back with the same axes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, pixels, version=(1, 0), allow_pickle=False)
    return file.getvalue() + (b"" if _reads_as_written(pixels.shape) else CHANNELS_LAST)


def _reads_as_written(shape: tuple[int, ...]) -> bool:
    try:
        return not channels_first(shape)
    except BadImage:
        return False


def channels_first(shape: tuple[int, ...], expected: int | None = None) -> bool:
    """Whether an array of this shape is [channels, height, width] rather than [height, width, channels].

    Args:
        shape: three numbers.
        expected: the number of channels of the data set, which decides where the shape fits both.

    Raises:
        BadImage: when it may be either.

    >>> channels_first((3, 48, 48)), channels_first((48, 48, 3)), channels_first((16, 16, 200))
    (True, False, False)
    """
    first, middle, last = shape
    if first > FEW or min(shape) < 1:
        return False
    picture_last, picture_first = _like_a_picture(first, middle), _like_a_picture(middle, last)
    if last in COLOURS and (picture_last or first not in COLOURS):
        return False
    if picture_last != picture_first:
        return picture_first
    if last > FEW and not picture_last:
        return True
    if expected in (first, last) and first != last:
        return expected == first
    raise BadImage(
        f"an array of shape {shape}, which may be [height, width, channels] or [channels, height, width]; --channels "
        f"{last} or {first} says which"
    )


def _like_a_picture(height: int, width: int) -> bool:
    return max(height, width) <= LONGEST * min(height, width)
