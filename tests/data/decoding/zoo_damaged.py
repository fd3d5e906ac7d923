"""Files that end too early, or lack parts in the middle."""

import io
from functools import partial

import numpy as np
from PIL import Image

from tests.data.decoding.crafting import PNG_END, encoded, npy, png, tiff, tiff_header, tiff_tags
from tests.data.decoding.zoo_kinds import (
    BANDS,
    DAMAGED,
    DEEP_PNG,
    GIF,
    HEIGHT,
    INKS,
    JPEG,
    PICTURE,
    PIXELS,
    PNG,
    SECOND,
    WIDTH,
    Kind,
    Read,
    Refused,
    cut,
)


def _kinds() -> list[Kind]:
    progressive = encoded(PICTURE, "JPEG", progressive=True)
    inks = encoded(INKS, "JPEG")
    animated = encoded(PICTURE, "GIF", save_all=True, append_images=[SECOND])
    cases = [
        ("JPEG", "jpg", JPEG),
        ("progressive JPEG", "jpg", progressive),
        ("CMYK JPEG", "jpg", inks),
        ("PNG", "png", PNG),
        ("16-bit PNG", "png", DEEP_PNG),
        ("WebP", "webp", encoded(PICTURE, "WEBP")),
        ("GIF", "gif", GIF),
        ("BMP", "bmp", encoded(PICTURE, "BMP")),
        ("TIFF", "tif", encoded(PICTURE, "TIFF")),
        ("TIFF with LZW compression", "tif", encoded(PICTURE, "TIFF", compression="tiff_lzw")),
        ("multi-band TIFF", "tif", tiff(BANDS, photometric="minisblack", planarconfig="contig", compression="zlib")),
        ("AVIF", "avif", encoded(PICTURE, "AVIF")),
        ("JPEG 2000", "jp2", encoded(PICTURE, "JPEG2000")),
        (".npy array", "npy", npy(PIXELS)),
    ]
    kinds = [
        Kind(name=f"{name}, cut at 10 points", ending=ending, outcome=Refused(DAMAGED), make=partial(cut, data))
        for name, ending, data in cases
    ]
    ended = [
        ("JPEG", "jpg", JPEG, b"\xff\xd9"),
        ("progressive JPEG", "jpg", progressive, b"\xff\xd9"),
        ("CMYK JPEG", "jpg", inks, b"\xff\xd9"),
        ("PNG", "png", PNG, PNG_END),
        ("GIF", "gif", GIF, b"\0;"),
    ]
    kinds += [
        Kind(
            name=f"{name}, cut at 10 points, its end marker put back",
            ending=ending,
            outcome=Refused(DAMAGED),
            make=partial(cut, data, tail),
        )
        for name, ending, data, tail in ended
    ]
    return [
        *kinds,
        Kind(
            name="PNG whose pixels end too early, otherwise whole",
            ending="png",
            outcome=Refused(DAMAGED),
            make=lambda: [png(WIDTH, HEIGHT, depth=8, colour=0, rows=bytes(9 * (WIDTH + 1)))],
        ),
        Kind(
            name="PNG with a wrong check sum",
            ending="png",
            outcome=Refused(DAMAGED),
            make=lambda: [PNG.replace(PNG_END, b"")[:-2] + b"\0\0" + PNG_END],
        ),
        Kind(
            name="animated GIF, cut in its second frame",
            ending="gif",
            outcome=Read(pixels=np.asarray(Image.open(io.BytesIO(GIF)).convert("RGB")), note="the first frame"),
            make=lambda: [animated[: len(animated) * 4 // 5]],
        ),
        Kind(
            name="TIFF with strips left out (sparse)",
            ending="tif",
            outcome=Refused(DAMAGED),
            make=lambda: [
                tiff_tags(tiff_header(16, 16, (273, 4, 1, 0), (279, 4, 1, 0)), bytes(256)),
                tiff_tags(tiff_header(16, 16, (258, 3, 1, 16), (273, 4, 1, 0), (279, 4, 1, 0)), bytes(512)),
            ],
        ),
        Kind(
            name="TIFF with strips beyond its end",
            ending="tif",
            outcome=Refused(DAMAGED),
            make=lambda: [tiff_tags(tiff_header(16, 16, (273, 4, 1, 9999)), bytes(256))],
        ),
        Kind(
            name="TIFF without a list of strips",
            ending="tif",
            outcome=Refused(DAMAGED),
            make=lambda: [tiff_tags([tag for tag in tiff_header(16, 16) if tag[0] not in (273, 279)], bytes(256))],
        ),
    ]


KINDS = _kinds()
