import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from openmae.data.decoding import BadImage, Pixels, decode

ORIENTATION_TAG = 0x0112
NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand: Pillow writes neither 16-bit colour nor sizes it would not read."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = value
    return exif.tobytes()


def palette_image() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([1, 0])
    return image


def two_pixels(mode: str, left: Any, right: Any) -> Image.Image:
    image = Image.new(mode, (2, 1))
    image.putdata([left, right])
    return image


# Rec. 601: grey = .299 R + .587 G + .114 B
@pytest.mark.parametrize(
    ("image", "kind", "colour", "grey"),
    [
        (two_pixels("L", 7, 250), "PNG", [(7, 7, 7), (250, 250, 250)], [7, 250]),
        (two_pixels("RGB", (255, 0, 0), (0, 0, 255)), "PNG", [(255, 0, 0), (0, 0, 255)], [76, 29]),
        (palette_image(), "PNG", [(200, 100, 50), (10, 20, 30)], [124, 18]),
        (palette_image(), "GIF", [(200, 100, 50), (10, 20, 30)], [124, 18]),
        (two_pixels("RGBA", (255, 0, 0, 9), (0, 255, 0, 255)), "PNG", [(255, 0, 0), (0, 255, 0)], [76, 150]),
        (two_pixels("LA", (7, 0), (250, 99)), "PNG", [(7, 7, 7), (250, 250, 250)], [7, 250]),
        (two_pixels("CMYK", (255, 0, 0, 0), (0, 0, 0, 255)), "TIFF", [(0, 255, 255), (0, 0, 0)], [179, 0]),
        (two_pixels("1", 1, 0), "PNG", [(255, 255, 255), (0, 0, 0)], [255, 0]),
    ],
    ids=["L", "RGB", "P", "P-gif", "RGBA", "LA", "CMYK", "1-bit"],
)
def test_every_mode_becomes_colour_and_grey(
    image: Image.Image, kind: str, colour: list[tuple[int, int, int]], grey: list[int]
) -> None:
    data = encoded(image, kind)
    assert Image.open(io.BytesIO(data)).mode == image.mode
    for channels, expected in ((3, [[list(pixel) for pixel in colour]]), (1, [[[level] for level in grey]])):
        pixels = decode(data, channels)
        assert pixels.dtype == np.uint8
        assert pixels.tolist() == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_every_mode_is_close_to_what_was_stored(mode: str, channels: int) -> None:
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB").convert(mode)
    pixels = decode(encoded(smooth, "JPEG", quality=95), channels)
    expected = np.asarray(smooth.convert("RGB").convert({1: "L", 3: "RGB"}[channels])).reshape(48, 64, channels)
    assert np.abs(pixels.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_undone(kind: str, value: int) -> None:
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16], upright[:16, 16:32], upright[16:, :16] = 255, 128, 60
    turned_left: NDArray[np.uint8] = np.rot90(upright)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: turned_left,  # "turn me right"
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: turned_left[::-1, ::-1],
    }[value]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=orientation(value), **options)
    pixels = decode(data, 3)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 3


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", orientation(99)])
def test_corrupt_exif_does_not_cost_the_image(exif: bytes) -> None:
    image = Image.fromarray(NOISE)
    plain = decode(encoded(image, "JPEG"), 3)
    assert np.array_equal(decode(encoded(image, "JPEG", exif=exif), 3), plain)


def test_a_corrupt_colour_profile_does_not_cost_the_image() -> None:
    assert np.array_equal(decode(encoded(Image.fromarray(NOISE), "PNG", icc_profile=b"junk"), 3), NOISE)


ENCODINGS = {
    "jpeg": encoded(Image.fromarray(NOISE), "JPEG"),
    "progressive jpeg": encoded(Image.fromarray(NOISE), "JPEG", progressive=True),
    "grey jpeg": encoded(Image.fromarray(NOISE[:, :, 0]), "JPEG"),
    "png": encoded(Image.fromarray(NOISE), "PNG"),
    "webp": encoded(Image.fromarray(NOISE), "WEBP"),
    "gif": encoded(Image.fromarray(NOISE), "GIF"),
    "bmp": encoded(Image.fromarray(NOISE), "BMP"),
    "tiff": encoded(Image.fromarray(NOISE), "TIFF"),
}


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.98])
def test_a_truncated_image_is_refused_with_a_reason(kind: str, share: float) -> None:
    data = ENCODINGS[kind]
    with pytest.raises(BadImage, match=r"\w{3,}"):
        decode(data[: int(len(data) * share)], 3)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(ENCODINGS)), cut=st.floats(0, 1), channels=st.sampled_from([1, 3]))
def test_a_cut_anywhere_gives_the_whole_image_or_none(kind: str, cut: float, channels: int) -> None:
    data = ENCODINGS[kind]
    pixels: Pixels | None
    try:
        pixels = decode(data[: int(len(data) * cut)], channels)
    except BadImage:
        pixels = None
    assert pixels is None or np.array_equal(pixels, decode(data, channels))


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a"]))
def test_bytes_that_are_no_image_are_refused_with_a_reason(data: bytes, start: bytes) -> None:
    with pytest.raises(BadImage, match=r"\w"):
        decode(start + data, 3)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html><body>404</body></html>", b"\0" * 1000])
def test_what_is_no_image_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"^not an image$"):
        decode(data, 3)


@pytest.mark.parametrize("side", [10_000, 50_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_decompression_bomb_is_refused(side: int, channels: int) -> None:
    bomb = png(side, side, depth=8, colour=2, rows=b"\0" * 1000)
    assert len(bomb) < 200
    with pytest.raises(BadImage, match="decompression bomb"):
        decode(bomb, channels)


@pytest.mark.parametrize(
    "data",
    [
        png(2, 1, depth=16, colour=0, rows=b"\0\x12\x34\x56\x78"),
        encoded(Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 200), "TIFF"),
        encoded(Image.fromarray(NOISE[:, :, 0].astype(np.int32)), "TIFF"),
        encoded(Image.fromarray(NOISE[:, :, 0].astype(np.float32)), "TIFF"),
    ],
    ids=["16-bit png", "16-bit tiff", "32-bit tiff", "float tiff"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_grey_levels_are_refused_rather_than_clipped(data: bytes, channels: int) -> None:
    with pytest.raises(BadImage, match="more than 8 bits a channel"):
        decode(data, channels)


def test_16_bit_colour_is_scaled_to_its_upper_8_bits() -> None:
    row = np.array([0x1234, 0x5678, 0xFEDC], dtype=">u2").tobytes()
    assert decode(png(1, 1, depth=16, colour=2, rows=b"\0" + row), 3).tolist() == [[[0x12, 0x56, 0xFE]]]


def test_a_mode_without_conversion_is_refused_with_a_reason() -> None:
    with pytest.raises(BadImage, match="LAB"):
        decode(encoded(Image.new("LAB", (2, 2)), "TIFF"), 1)


def test_the_reason_for_a_failure_that_explains_nothing_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OverflowError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(BadImage, match=r"^OverflowError$"):
        decode(b"", 3)
