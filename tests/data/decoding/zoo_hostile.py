"""Files that are no images, attacks on memory, and things in a folder that cannot be read at all."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.data.decoding.crafting import (
    ARITHMETIC_JPEG,
    chunk,
    deflated_zeros,
    icon_of,
    npy,
    npy_claiming,
    png,
    tiff_header,
    tiff_tags,
    webp_claiming,
)
from tests.data.decoding.zoo_kinds import DAMAGED, HEIGHT, PIXELS, PNG, WIDTH, Kind, Read, Refused, Unlisted

BOMB = "could be a decompression bomb; see --max-pixels"
NESTED_BOMB = Refused("could be a decompression bomb", bomb=True)  # found by us, or by the library
NO_IMAGE = Refused("not an image")
WHOLE = Read(pixels=PIXELS)
ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
DRAWING = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(touched) (w) file\n%%EOF\n"


def _no_images() -> list[Kind]:
    cases: list[tuple[str, str, bytes]] = [
        ("empty file", "jpg", b""),
        ("HTML named .jpg", "jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        ("text named .png", "png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
        ("EPS named .jpg", "jpg", POSTSCRIPT),
        ("PDF named .jpg", "jpg", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"),
        ("SVG named .png", "png", DRAWING),
        ("ZIP archive named .png", "png", b"PK\5\6" + bytes(18)),
        ("film (MP4) named .jpg", "jpg", b"\0\0\0\x18ftypmp42" + bytes(100)),
        ("zeros", "jpg", bytes(5000)),
    ]
    return [
        Kind(name=name, ending=ending, outcome=NO_IMAGE, make=lambda data=data: [data])  # type: ignore[misc]
        for name, ending, data in cases
    ]


def _bombs() -> list[Kind]:
    bomb = Refused(BOMB, bomb=True)
    damaged = Refused(DAMAGED, bomb=True)

    def text(megabytes: int) -> bytes:
        return chunk(b"zTXt", b"k\0\0" + deflated_zeros(megabytes))

    def with_chunks(before: bytes = b"", after: bytes = b"") -> bytes:
        return png(WIDTH, HEIGHT, depth=8, colour=2, rows=ROWS, before=before, after=after)

    large = tiff_header(60_000, 60_000)
    return [
        Kind(
            name="PNG that claims 50,000x50,000 or 20,000x20,000 pixels",
            ending="png",
            outcome=bomb,
            make=lambda: [
                png(side, side, depth=depth, colour=2, rows=bytes(1000))
                for side in (50_000, 20_000)
                for depth in (8, 16)
            ],
        ),
        Kind(
            name="TIFF that claims 60,000x60,000 pixels",
            ending="tif",
            outcome=bomb,
            make=lambda: [
                tiff_tags(large, bytes(64)),
                tiff_tags(tiff_header(60_000, 60_000, (258, 3, 1, 16)), bytes(64)),
            ],
        ),
        Kind(
            name="TIFF that claims 60,000 bands",
            ending="tif",
            outcome=bomb,
            make=lambda: [tiff_tags(tiff_header(500, 500, (277, 3, 1, 60_000), (279, 4, 1, 200)), bytes(500))],
        ),
        Kind(
            name="TIFF with tags of billions of values",
            ending="tif",
            outcome=damaged,
            make=lambda: [
                tiff_tags(tiff_header(16, 16, (273, kind, 4_000_000_000, 8)), bytes(300)) for kind in (1, 3, 4, 16)
            ],
        ),
        Kind(
            name="TIFF strip that inflates far beyond its size",
            ending="tif",
            outcome=Refused(DAMAGED, bomb=True),
            make=lambda: [_inflating_strip()],
        ),
        Kind(
            name="PNG text that inflates to 128 MB",
            ending="png",
            outcome=damaged,
            make=lambda: [with_chunks(text(128)), with_chunks(chunk(b"iTXt", b"k\0\1\0\0\0" + deflated_zeros(128)))],
        ),
        Kind(
            name="PNG profile that inflates to 128 MB",
            ending="png",
            outcome=damaged,
            make=lambda: [with_chunks(chunk(b"iCCP", b"k\0\0" + deflated_zeros(128)))],
        ),
        Kind(
            name="PNG with 200 texts of 1 MB each",
            ending="png",
            outcome=damaged,
            make=lambda: [with_chunks(chunk(b"zTXt", b"k\0\0" + deflated_zeros(1)[:-5]) * 200)],
        ),
        Kind(
            name="PNG with such texts behind its pixels",
            ending="png",
            outcome=Read(pixels=PIXELS, note="nobody looks at the texts"),
            make=lambda: [with_chunks(after=text(6) * 40)],
        ),
        Kind(
            name="PNG whose pixels inflate far beyond its size",
            ending="png",
            outcome=Read(size=(1, 1), pixels=np.zeros((1, 1, 3), dtype=np.uint8), note="as far as they belong to it"),
            make=lambda: [
                png(1, 1, depth=8, colour=2, rows=b"").replace(
                    chunk(b"IDAT", b"x\x9c\x03\0\0\0\0\1"), chunk(b"IDAT", deflated_zeros(128))
                )
            ],
        ),
        Kind(
            name="icon that holds a PNG of 10,000x10,000 pixels",
            ending="ico",
            outcome=NESTED_BOMB,
            make=lambda: [icon_of(png(10_000, 10_000, depth=8, colour=2, rows=bytes(1000)))],
        ),
        Kind(
            name="animated WebP with a canvas of 16,384x16,384",
            ending="webp",
            outcome=NESTED_BOMB,
            make=lambda: [webp_claiming(16_384, 16_384)],
        ),
        Kind(
            name=".npy array of a huge declared shape",
            ending="npy",
            outcome=bomb,
            make=lambda: [npy_claiming((200_000, 200_000, 3), "<f4"), npy_claiming((2**40, 2**40), "|u1")],
        ),
        Kind(
            name=".npy array of Python objects",
            ending="npy",
            outcome=Refused("an array of object, not of numbers", note="nothing is unpickled"),
            make=lambda: [npy(np.array([[{}]], dtype=object), allow_pickle=True)],
        ),
        Kind(
            name=".npy array with infinite values",
            ending="npy",
            outcome=Refused("some of its values are infinite"),
            make=lambda: [npy(np.full((4, 4), value, dtype=np.float32)) for value in (-np.inf, np.inf)],
        ),
        Kind(
            name="JPEG with arithmetic coding",
            ending="jpg",
            outcome=Refused("a JPEG with arithmetic coding, in which missing data cannot be noticed"),
            make=lambda: [ARITHMETIC_JPEG],
        ),
    ]


def _inflating_strip() -> bytes:
    """A multi-band deflate TIFF whose only strip is replaced by one that inflates to 128 MB."""
    data = deflated_zeros(128)
    start = 8 + 2 + 12 * 11 + 4
    tags = tiff_header(
        16,
        16,
        (258, 3, 1, 16),
        (259, 3, 1, 8),
        (273, 4, 1, start),
        (279, 4, 1, len(data)),
        (339, 3, 1, 1),
        (284, 3, 1, 1),
    )
    return tiff_tags(tags, data)


def _places() -> list[Kind]:
    """Kinds whose errors come from the file system."""

    def forbidden(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        path.chmod(0)

    def folder(path: Path, data: bytes) -> None:
        path.mkdir()

    nowhere = Refused("No such file or directory")
    good = lambda: [PNG]  # noqa: E731
    return [
        Kind(
            name="link to nothing", ending="png", outcome=nowhere, place=lambda path, _: path.symlink_to("nowhere.png")
        ),
        Kind(
            name="link to itself",
            ending="png",
            outcome=Refused("Too many levels of symbolic links"),
            place=lambda path, _: path.symlink_to(path.name),
        ),
        Kind(
            name="FIFO named .jpg",
            ending="jpg",
            outcome=Refused("a FIFO, not a file", note="nobody waits for it"),
            place=lambda path, _: os.mkfifo(path),
            possible=hasattr(os, "mkfifo"),
        ),
        Kind(
            name="folder named x.jpg",
            ending="jpg",
            outcome=Unlisted("a folder like any other: its images are read"),
            place=folder,
        ),
        Kind(
            name="file without permission to read",
            ending="png",
            outcome=Refused("Permission denied"),
            make=good,
            place=forbidden,
            possible=hasattr(os, "geteuid") and os.geteuid() != 0,
        ),
        Kind(name="file deleted while running", ending="png", outcome=nowhere, make=good, spoil=Path.unlink),
        Kind(
            name="file replaced by a web page while running",
            ending="png",
            outcome=NO_IMAGE,
            make=good,
            spoil=lambda path: path.write_bytes(b"<html>"),
        ),
        Kind(
            name="file replaced by another image while running",
            ending="png",
            outcome=Read(pixels=PIXELS, note="the new one"),
            make=lambda: [b"<html>"],
            spoil=lambda path: path.write_bytes(PNG),
        ),
        Kind(name="names in any script", ending="png", file="жß漢字🦉\u202e é.png".encode(), outcome=WHOLE, make=good),
        Kind(
            name="names with line ends and control characters",
            ending="png",
            file=b"a\nb\x1b[31m\t.png",
            outcome=WHOLE,
            make=good,
        ),
        Kind(name="names that are not UTF-8", ending="png", file=b"caf\xe9.png", outcome=WHOLE, make=good),
        Kind(name="names of 255 bytes", ending="png", file=b"n" * 251 + b".png", outcome=WHOLE, make=good),
        Kind(
            name="SVG, PDF, EPS, texts by their own names",
            ending="svg",
            outcome=Unlisted("no images: not even listed"),
            make=lambda: [DRAWING],
        ),
        Kind(name="hidden files", ending="png", file=b".hidden.png", outcome=Unlisted("not listed"), make=good),
    ]


KINDS: Sequence[Kind] = (*_no_images(), *_bombs(), *_places())
