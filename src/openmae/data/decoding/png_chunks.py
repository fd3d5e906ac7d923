"""Reduce a PNG to the chunks of its pixels, without the texts and profiles that a decoder would inflate."""

from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Without the chunks of animations (acTL, fcTL, fdAT), so that the picture that a plain viewer shows remains.
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
EXIF = b"eXIf"


class Chunks(NamedTuple):
    """A PNG reduced to its pixels, and its EXIF block, which may stand before or after them."""

    pixels: bytes
    exif: bytes | None


def read_chunks(data: bytes) -> Chunks:
    """Split a PNG. A file that ends too early is still cut short after this, so that decoding it fails."""
    kept, exif, place = [SIGNATURE], None, len(SIGNATURE)
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if kind in PIXEL_CHUNKS:
            kept.append(data[place:end])
        elif kind == EXIF:
            exif = data[place + 8 : end - 4]
        if kind == b"IEND":
            break
        place = end
    return Chunks(b"".join(kept), exif)
