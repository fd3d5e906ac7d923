"""Files that no library writes: put together by hand, byte by byte."""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

# 32x24 and 16x8 pixels, written with libjpeg-turbo's `arith_code` and `jpeg_set_colorspace(…, JCS_YCCK)`.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQ"
    "YEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAAYACAD"
    "ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AJWzI7twc8YqTA0Y9oc1YiAxIFv2uFMMQtnlDkFNMUAOPIqbLRWTiKfqC+dVvVOm"
    "RE/o+hRTwPAE3q6I/9k="
)
YCCK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAC/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgWFBgS"
    "FBUU/9sAQwEDBAQFBAUJBQUJFA0LDRQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU/8AAFAgACAAQBAEi"
    "AAIRAQMRAQQiAP/EABcAAQADAAAAAAAAAAAAAAAAAAAGBwn/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAABQf/xAAY"
    "EQACAwAAAAAAAAAAAAAAAAAAB0WDw//aAA4EAQACEQMRBAAAPwCVr9AY/wCLuyJAhpOnU1TAf//Z"
)
PNG_START = b"\x89PNG\r\n\x1a\n"
MEGABYTE = 1 << 20


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int, *, padding: int = 0) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    if padding:
        block[0x010E] = "x" * padding
    return block.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG_END = chunk(b"IEND", b"")


def png(
    width: int, height: int, *, depth: int, colour: int, rows: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG of any declared size; `before` and `after` are whole chunks around the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_START + header + before + chunk(b"IDAT", zlib.compress(rows)) + after + PNG_END


def deflated_zeros(megabytes: int) -> bytes:
    """A zlib stream a thousandth as long as what it inflates to, made without that much memory."""
    stream = zlib.compressobj(9)
    return b"".join(stream.compress(bytes(MEGABYTE)) for _ in range(megabytes)) + stream.flush()


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def tiff_tags(tags: Sequence[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF of these (number, type, count, value) and, after them, `data`."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def tiff_header(width: int, height: int, *extra: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Tags of an uncompressed 8-bit grey TIFF in one strip that begins at byte 8; `extra` replaces or adds some."""
    short, long = 3, 4
    tags = {
        256: (256, long, 1, width),
        257: (257, long, 1, height),
        258: (258, short, 1, 8),
        259: (259, short, 1, 1),
        262: (262, short, 1, 1),
        273: (273, long, 1, 8),
        277: (277, short, 1, 1),
        278: (278, long, 1, height),
        279: (279, long, 1, min(width * height, 2**32 - 1)),
    }
    return list((tags | {tag[0]: tag for tag in extra}).values())


def npy(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npy_claiming(shape: tuple[int, ...], kind: str) -> bytes:
    """The header of an array of any size, with a hundred bytes behind it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": kind})
    return buffer.getvalue() + bytes(100)


def webp_claiming(width: int, height: int) -> bytes:
    """An animated WebP with a canvas of any size and one frame of a few pixels."""
    still = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    canvas = struct.pack("<I", 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + b"\7\0\0" * 2 + b"\x64\0\0\0" + still
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon_of(picture: bytes) -> bytes:
    """An icon whose header claims 16x16 pixels, around any other picture."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture
