"""Whole files of every mode and shape, the rarer of which other readers get wrong."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from openmae.data.decoding import PixelFormat, Pixels
from tests.data.decoding.crafting import YCCK_JPEG, chunk, encoded, exif, npy, tiff, tiff_header, tiff_tags
from tests.data.decoding.zoo_kinds import (
    BANDS,
    DEEP,
    DEEP_PNG,
    GIF,
    GREY,
    INKS,
    JPEG,
    PICTURE,
    PIXELS,
    PNG,
    SECOND,
    Kind,
    Read,
    Refused,
)

GREY_AS_COLOUR = np.repeat(GREY[:, :, None], 3, axis=2)
ALPHA = Image.fromarray(np.dstack([PIXELS, GREY]))
GREY_ALPHA = Image.fromarray(np.dstack([GREY, 255 - GREY]))
BLACK_AND_WHITE = PICTURE.convert("1")
PALETTE = PICTURE.quantize(32)
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.swapaxes(0, 1),
    6: np.rot90(PIXELS),
    7: PIXELS[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(PIXELS, -1),
}
"""PICTURE stored so that this EXIF orientation turns it upright."""


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def from_jpeg(data: bytes = JPEG) -> Read:
    return Read(pixels=by_pillow(data), tolerance=1)


def _turned(kind: str) -> list[bytes]:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    return [
        encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif(value), **options)
        for value, stored in TURNED.items()
    ]


def _kinds() -> list[Kind]:
    grey = Read(pixels=GREY_AS_COLOUR)
    whole = Read(pixels=PIXELS)
    first_frame = Read(pixels=PIXELS, note="the first frame")
    all_bits = "all 16 bits; among 8-bit images it is listed as bad"
    bands = Read(format=PixelFormat(5, "uint16"), pixels=BANDS, note="all 5 bands; among colour images listed as bad")
    frames = {"save_all": True, "append_images": [SECOND]}
    inks, sixteen = encoded(INKS, "JPEG"), GREY.astype(np.uint16) * 256 + 7
    floats = GREY.astype(np.float32) / 7
    line = np.arange(20_000, dtype=np.uint8).reshape(1, 20_000)

    def kind(name: str, ending: str, outcome: Read | Refused, *files: bytes) -> Kind:
        return Kind(name=name, ending=ending, outcome=outcome, make=lambda: files)

    return [
        kind("grey PNG (L)", "png", grey, encoded(Image.fromarray(GREY), "PNG")),
        kind(
            "grey PNG with alpha (LA)",
            "png",
            Read(pixels=GREY_AS_COLOUR, note="without alpha"),
            encoded(GREY_ALPHA, "PNG"),
        ),
        kind("colour PNG with alpha (RGBA)", "png", Read(pixels=PIXELS, note="without alpha"), encoded(ALPHA, "PNG")),
        kind(
            "palette (P): PNG, GIF, BMP",
            "png",
            Read(pixels=np.asarray(PALETTE.convert("RGB"))),
            *(encoded(PALETTE, each) for each in ("PNG", "GIF", "BMP")),
        ),
        kind(
            "palette PNG with transparency",
            "png",
            Read(pixels=np.asarray(PALETTE.convert("RGB")), note="without it"),
            encoded(PALETTE, "PNG", transparency=3),
        ),
        kind(
            "1-bit: PNG, TIFF, CCITT TIFF",
            "png",
            Read(pixels=np.asarray(BLACK_AND_WHITE.convert("RGB"))),
            encoded(BLACK_AND_WHITE, "PNG"),
            encoded(BLACK_AND_WHITE, "TIFF"),
            encoded(BLACK_AND_WHITE, "TIFF", compression="group4"),
        ),
        kind(
            "16-bit grey (I;16): PNG, TIFF",
            "png",
            Read(format=PixelFormat(1, "uint16"), pixels=sixteen[:, :, None], note=all_bits),
            encoded(Image.fromarray(sixteen), "PNG"),
            encoded(Image.fromarray(sixteen), "TIFF"),
        ),
        kind("16-bit colour PNG", "png", Read(format=PixelFormat(3, "uint16"), pixels=DEEP, note=all_bits), DEEP_PNG),
        kind(
            "floating-point TIFF",
            "tif",
            Read(
                format=PixelFormat(1, "float32"),
                pixels=floats[:, :, None],
                note="as floats; among 8-bit images listed as bad",
            ),
            tiff(floats),
        ),
        kind("CMYK TIFF", "tif", Read(pixels=np.asarray(INKS.convert("RGB"))), encoded(INKS, "TIFF")),
        kind("CMYK JPEG, as Photoshop writes it", "jpg", Read(pixels=by_pillow(inks), tolerance=1), inks),
        kind("YCCK JPEG", "jpg", Read(size=(8, 16), pixels=by_pillow(YCCK_JPEG), tolerance=1), YCCK_JPEG),
        kind(
            "grey JPEG",
            "jpg",
            Read(pixels=by_pillow(encoded(Image.fromarray(GREY), "JPEG")), tolerance=1),
            encoded(Image.fromarray(GREY), "JPEG"),
        ),
        kind("progressive JPEG", "jpg", from_jpeg(), encoded(PICTURE, "JPEG", progressive=True)),
        kind(
            "lossless WebP, BMP, PPM, TGA, QOI, JPEG 2000",
            "img.webp",
            whole,
            encoded(PICTURE, "WEBP", lossless=True),
            *(encoded(PICTURE, each) for each in ("BMP", "PPM", "TGA", "QOI", "JPEG2000")),
        ),
        kind(
            "TIFF with LZW, deflate or PackBits compression",
            "tif",
            whole,
            *(encoded(PICTURE, "TIFF", compression=each) for each in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
        ),
        kind("BigTIFF", "tif", whole, tiff(PIXELS, photometric="rgb", bigtiff=True)),
        kind(
            "multi-band TIFF, by pixel, by band, in tiles",
            "tif",
            bands,
            tiff(BANDS, photometric="minisblack", planarconfig="contig"),
            tiff(np.moveaxis(BANDS, 2, 0), photometric="minisblack", planarconfig="separate"),
            tiff(BANDS, photometric="minisblack", planarconfig="contig", tile=(16, 16), compression="zlib"),
        ),
        kind("AVIF", "avif", Read(pixels=by_pillow(encoded(PICTURE, "AVIF"))), encoded(PICTURE, "AVIF")),
        kind(".npy array", "npy", whole, npy(PIXELS)),
        kind(
            "EXIF orientation 1 to 8: PNG, TIFF",
            "png",
            Read(pixels=PIXELS, note="upright"),
            *_turned("PNG"),
            *_turned("TIFF"),
        ),
        kind(
            "EXIF orientation 1 to 8: JPEG", "jpg", Read(pixels=PIXELS, tolerance=12, note="upright"), *_turned("JPEG")
        ),
        kind("PNG with its EXIF behind the pixels", "png", Read(pixels=PIXELS, note="upright"), _late_exif()),
        kind("huge EXIF block", "jpg", from_jpeg(), encoded(PICTURE, "JPEG", exif=exif(1, padding=60_000))),
        kind(
            "corrupt EXIF block",
            "jpg",
            from_jpeg(),
            *(
                encoded(PICTURE, "JPEG", exif=b"Exif\0\0" + block)
                for block in (b"", b"junk", b"II*\0\xff\xff\xff\xff", exif(99)[6:])
            ),
        ),
        kind("corrupt colour profile", "png", whole, encoded(PICTURE, "PNG", icc_profile=b"junk")),
        kind(
            "animated GIF",
            "gif",
            Read(pixels=by_pillow(GIF), note="the first frame"),
            encoded(PICTURE, "GIF", **frames),
        ),
        kind(
            "animated WebP, PNG",
            "png",
            first_frame,
            encoded(PICTURE, "WEBP", lossless=True, **frames),
            encoded(PICTURE, "PNG", **frames),
        ),
        kind(
            "TIFF of several pages of one size",
            "tif",
            Refused("--pages channels, images or first says what they are"),
            encoded(PICTURE, "TIFF", **frames),
        ),
        kind(
            "TIFF with a smaller preview as its second page",
            "tif",
            Read(pixels=PIXELS, note="the first page"),
            encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.resize((7, 5))]),
        ),
        kind(
            "MPO (JPEG of several views)",
            "mpo",
            Read(pixels=by_pillow(JPEG), tolerance=1, note="the first view"),
            encoded(PICTURE, "MPO", **frames),
        ),
        kind(
            "1x1 pixel",
            "png",
            Read(size=(1, 1), pixels=PIXELS[:1, :1]),
            encoded(Image.fromarray(PIXELS[:1, :1]), "PNG"),
        ),
        kind(
            "1x20,000 and 20,000x1 pixels",
            "png",
            Read(size=(1, 20_000), pixels=np.repeat(line[:, :, None], 3, axis=2)),
            encoded(Image.fromarray(line), "PNG"),
            encoded(Image.fromarray(line.T), "PNG", exif=exif(5)),
        ),
        kind("PNG named .jpg", "jpg", whole, PNG),
        kind("JPEG named .png", "png", from_jpeg(), JPEG),
        kind(
            "JPEG with padding before its end, or anything behind it",
            "jpg",
            from_jpeg(),
            JPEG[:-2] + b"\1\2\3" + JPEG[-2:],
            JPEG + b"<html>" * 50,
        ),
        kind(
            "TIFF with unknown and empty tags",
            "tif",
            Read(size=(2, 2), pixels=np.full((2, 2, 3), 7, dtype=np.uint8)),
            _odd_tags(),
        ),
    ]


def _late_exif() -> bytes:
    stored = encoded(Image.fromarray(np.ascontiguousarray(TURNED[6])), "PNG")
    return stored[:-12] + chunk(b"eXIf", exif(6)[6:]) + stored[-12:]


def _odd_tags() -> bytes:
    start = 8 + 2 + 12 * 11 + 4
    tags = tiff_header(2, 2, (273, 4, 1, start), (40_000, 4, 1, 5), (40_001, 2, 0, 0))
    return tiff_tags(tags, bytes([7]) * 4)


KINDS: Sequence[Kind] = _kinds()
