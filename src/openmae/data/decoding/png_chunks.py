"""The chunks of a PNG: those that make its pixels, without the texts and profiles that a decoder would inflate."""

from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Animations (acTL, fcTL, fdAT) are left out too: what remains is the picture that a plain viewer shows.
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
EXIF = b"eXIf"


class Chunks(NamedTuple):
    """A PNG of nothing but pixels, and the EXIF block that came with it, before or after them."""

    pixels: bytes
    exif: bytes | None


def read_chunks(data: bytes) -> Chunks:
    """What of a PNG matters here; a file that ends too early stays one that does."""
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
