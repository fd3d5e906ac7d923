"""A kind of file in the zoo, and the pictures that its files are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from openmae.data.decoding import PixelFormat, Pixels
from tests.data.decoding.crafting import encoded, png

COLOUR = PixelFormat()
DAMAGED = "damaged or cut short"
HEIGHT, WIDTH = 40, 56


@dataclass(frozen=True, kw_only=True)
class Read:
    """Decoded to `size` (height, width) in `format`: to these pixels, give or take `tolerance`."""

    size: tuple[int, int] = (HEIGHT, WIDTH)
    format: PixelFormat = COLOUR
    pixels: Pixels | None = None
    tolerance: int = 0
    note: str = ""

    def __str__(self) -> str:
        return f"read{self.note and ', '}{self.note}"


@dataclass(frozen=True)
class Refused:
    """Refused with a reason that says this; a `bomb` within little memory."""

    reason: str
    note: str = ""
    bomb: bool = False

    def __str__(self) -> str:
        return f"refused: {self.reason}{self.note and '; '}{self.note}"


@dataclass(frozen=True)
class Unlisted:
    """No image at all for `--data`."""

    note: str

    def __str__(self) -> str:
        return self.note


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One row of the table in docs/data.md.

    Args:
        name: of the kind, for people.
        ending: of the files' names.
        outcome: what becomes of each of its files.
        make: the bytes of its files.
        place: puts one file with those bytes at a path.
        spoil: what happens to a file after the data have been listed.
        file: a whole file name, where that is the point.
        possible: False where this machine cannot make such a file.
    """

    name: str
    ending: str
    outcome: Read | Refused | Unlisted
    make: Callable[[], Sequence[bytes]] = lambda: [b""]
    place: Callable[[Path, bytes], object] = Path.write_bytes
    spoil: Callable[[Path], object] | None = None
    file: bytes | None = None
    possible: bool = True


def _smooth() -> Pixels:
    coarse = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


PIXELS = _smooth()
PICTURE = Image.fromarray(PIXELS)
GREY = np.asarray(PICTURE.convert("L"))
GREY_AS_COLOUR = np.repeat(GREY[:, :, None], 3, axis=2)
ALPHA = np.dstack([PIXELS, GREY])
BLACK_AND_WHITE = PICTURE.convert("1")
PALETTE = PICTURE.quantize(32)
INKS = PICTURE.convert("CMYK")
DEEP = PIXELS.astype(np.uint16) * 257 + 3
BANDS = np.random.default_rng(1).integers(0, 60000, (HEIGHT, WIDTH, 5)).astype(np.uint16)
SECOND = PICTURE.rotate(180)
JPEG, PNG, GIF = (encoded(PICTURE, kind) for kind in ("JPEG", "PNG", "GIF"))
DEEP_PNG = png(WIDTH, HEIGHT, depth=16, colour=2, rows=b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP))


def cut(data: bytes, tail: bytes = b"") -> list[bytes]:
    """The file cut at ten points, the last of them just before its end; `tail` is put back behind each."""
    return [data[: len(data) * part // 100] + tail for part in (3, 10, 20, 30, 40, 50, 65, 80, 90, 97)]
