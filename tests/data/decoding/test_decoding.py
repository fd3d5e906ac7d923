import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from openmae.data.decoding import BadImage, PixelFormat, Pixels, PixelType, decode, open_image

COLOUR = PixelFormat()
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
        pixels = decode(data, PixelFormat(channels))
        assert pixels.dtype == np.uint8
        assert pixels.tolist() == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_every_mode_is_close_to_what_was_stored(mode: str, channels: int) -> None:
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB").convert(mode)
    pixels = decode(encoded(smooth, "JPEG", quality=95), PixelFormat(channels))
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
    opened = open_image(data)
    assert (opened.height, opened.width) == upright.shape[:2]
    pixels = opened.decode(COLOUR)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 3


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", orientation(99)])
def test_an_image_with_corrupt_exif_is_read(exif: bytes) -> None:
    image = Image.fromarray(NOISE)
    plain = decode(encoded(image, "JPEG"), COLOUR)
    opened = open_image(encoded(image, "JPEG", exif=exif))
    assert (opened.height, opened.width) == plain.shape[:2]
    assert np.array_equal(opened.decode(COLOUR), plain)


def test_an_image_with_a_corrupt_colour_profile_is_read() -> None:
    assert np.array_equal(decode(encoded(Image.fromarray(NOISE), "PNG", icc_profile=b"junk"), COLOUR), NOISE)


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
        decode(data[: int(len(data) * share)], COLOUR)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(ENCODINGS)), cut=st.floats(0, 1), channels=st.sampled_from([1, 3]))
def test_a_cut_anywhere_gives_the_whole_image_or_none(kind: str, cut: float, channels: int) -> None:
    data = ENCODINGS[kind]
    pixels: Pixels | None
    try:
        pixels = decode(data[: int(len(data) * cut)], PixelFormat(channels))
    except BadImage:
        pixels = None
    assert pixels is None or np.array_equal(pixels, decode(data, PixelFormat(channels)))


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a"]))
def test_bytes_that_are_no_image_are_refused_with_a_reason(data: bytes, start: bytes) -> None:
    with pytest.raises(BadImage, match=r"\w"):
        decode(start + data, COLOUR)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html><body>404</body></html>", b"\0" * 1000])
def test_a_file_of_another_kind_is_called_not_an_image(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"^not an image$"):
        decode(data, COLOUR)


@pytest.mark.parametrize("side", [20_000, 50_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_decompression_bomb_is_refused(side: int, channels: int) -> None:
    bomb = png(side, side, depth=8, colour=2, rows=b"\0" * 1000)
    assert len(bomb) < 200
    with pytest.raises(BadImage, match="decompression bomb"):
        decode(bomb, PixelFormat(channels))


def tiff(pixels: Pixels, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def npy(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


LEVELS16 = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56, 1) * 29
DEEP = [
    (png(2, 1, depth=16, colour=0, rows=b"\0\x12\x34\x56\x78"), [[[0x1234], [0x5678]]], "uint16"),
    (encoded(Image.fromarray(LEVELS16[:, :, 0]), "TIFF"), LEVELS16, "uint16"),
    (encoded(Image.fromarray(LEVELS16[:, :, 0]), "PPM"), LEVELS16, "uint16"),
    (encoded(Image.fromarray(LEVELS16[:, :, 0].astype(np.int32) - 9), "TIFF"), LEVELS16 - 9.0, "float32"),
    (encoded(Image.fromarray(LEVELS16[:, :, 0].astype(np.float32) / 7), "TIFF"), LEVELS16 / np.float32(7), "float32"),
    (npy(LEVELS16[:, :, 0].astype(">u2")), LEVELS16, "uint16"),
    (npy(np.asfortranarray(LEVELS16.astype(np.float64))), LEVELS16, "float32"),
    (npy(LEVELS16[:, :, 0] > 999), (LEVELS16 > 999) * 255, "uint8"),
    (tiff(LEVELS16[:, :, 0], photometric="miniswhite"), 65535 - LEVELS16, "uint16"),
]


@pytest.mark.parametrize(
    ("data", "levels", "kind"),
    DEEP,
    ids=["png", "tiff", "pgm", "int32", "float", "npy", "npy-fortran", "npy-bits", "miniswhite"],
)
def test_deep_grey_levels_are_kept_exactly(data: bytes, levels: Any, kind: PixelType) -> None:
    opened = open_image(data)
    assert opened.stored == (1, kind)
    pixels = opened.decode(PixelFormat(1, kind))
    assert pixels.dtype == kind
    assert np.array_equal(pixels, levels)
    assert np.array_equal(opened.decode(PixelFormat(3, kind)), np.repeat(pixels, 3, axis=2))


@pytest.mark.parametrize(("stored", "wanted"), [("uint16", "uint8"), ("float32", "uint8"), ("float32", "uint16")])
def test_deep_levels_are_refused_rather_than_clipped(stored: PixelType, wanted: PixelType) -> None:
    for data in (npy(LEVELS16.astype(stored)), tiff(LEVELS16[:, :, 0].astype(stored))):
        with pytest.raises(BadImage, match=rf"^{stored} pixels, which would not survive as {wanted}$"):
            decode(data, PixelFormat(1, wanted))
    with pytest.raises(BadImage, match="would not survive"):  # the scale of bytes among floats is unknown
        decode(npy(LEVELS16.astype(np.uint8)), PixelFormat(1, "float32"))


def test_bytes_among_16_bit_images_fill_the_same_range() -> None:
    pixels = decode(encoded(Image.fromarray(NOISE), "PNG"), PixelFormat(3, "uint16"))
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, NOISE.astype(np.uint16) * 257)


@pytest.mark.parametrize("colour", [2, 4, 6], ids=["RGB", "LA", "RGBA"])
def test_16_bit_colour_keeps_all_its_bits(colour: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[colour]
    levels = np.array([0x1234, 0x5678, 0xFEDC, 0x0102][:channels], dtype=np.uint16)
    data = png(1, 1, depth=16, colour=colour, rows=b"\0" + levels.astype(">u2").tobytes())
    assert open_image(data).stored == (channels, "uint16")
    assert decode(data, PixelFormat(channels, "uint16")).tolist() == [[levels.tolist()]]
    in_colour = decode(data, PixelFormat(3, "uint16"))
    assert in_colour.tolist() == [[levels[:3].tolist() if channels > 2 else [0x1234] * 3]]
    with pytest.raises(BadImage, match="would not survive as uint8"):
        decode(data, COLOUR)


def test_deep_colour_becomes_grey_by_luma() -> None:
    levels = np.array([[[65535, 0, 0], [0, 65535, 0], [0, 0, 65535], [700, 700, 700]]], dtype=np.uint16)
    assert decode(npy(levels), PixelFormat(1, "uint16"))[0, :, 0].tolist() == [19595, 38469, 7471, 700]


@pytest.mark.parametrize("bands", [2, 4, 5, 13])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "int16", "uint32", "float64"])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiled", "deflate", "npy"])
def test_bands_of_any_number_and_depth_survive(bands: int, kind: str, layout: str) -> None:
    pixels = np.random.default_rng(bands).integers(0, 100, (48, 32, bands)).astype(kind)
    if layout == "npy":
        data = npy(pixels)
    else:
        options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
        if layout == "separate":
            options["planarconfig"], stored = "separate", np.moveaxis(pixels, 2, 0)
        else:
            stored = pixels
        extra: dict[str, dict[str, Any]] = {
            "tiled": {"tile": (16, 16)},
            "deflate": {"compression": "zlib", "predictor": kind[0] != "f"},
        }
        data = tiff(stored, **options, **extra.get(layout, {}))
    opened = open_image(data)
    expected = kind if kind in ("uint8", "uint16") else "float32"
    assert opened.stored == (bands, expected)
    assert (opened.height, opened.width) == (48, 32)
    decoded = opened.decode(opened.stored)
    assert decoded.dtype == expected
    assert np.array_equal(decoded, pixels)
    for other in {1, 3, bands + 1} - {bands}:
        with pytest.raises(BadImage, match=rf"^{bands} channels instead of {other}$"):
            opened.decode(PixelFormat(other, opened.stored.kind))


@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_is_undone_in_deep_tiff_too(value: int) -> None:
    small = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)
    data = tiff(small, photometric="minisblack", planarconfig="contig", extratags=[(274, 3, 1, value, True)])
    opened = open_image(data)
    upright = opened.decode(PixelFormat(5, "uint16"))
    by_pillow = [
        np.asarray(ImageOps.exif_transpose(with_orientation(small[:, :, band].astype(np.uint8), value)))
        for band in range(5)
    ]
    assert np.array_equal(upright, np.stack(by_pillow, axis=2))
    assert (opened.height, opened.width) == upright.shape[:2]


def with_orientation(pixels: Pixels, value: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "PNG", exif=orientation(value))))


def test_infinite_values_are_refused() -> None:
    pixels = np.zeros((4, 4), dtype=np.float32)
    for value in (-np.inf, np.inf):
        pixels[1, 2] = value
        for data in (npy(pixels), tiff(pixels)):
            with pytest.raises(BadImage, match="infinite"):
                decode(data, PixelFormat(1, "float32"))


def test_arrays_that_need_unpickling_or_have_another_shape_are_refused() -> None:
    refused = {
        "array of object": npy(np.array([[{}]], dtype=object), allow_pickle=True),
        r"array of shape \(2, 2, 2, 2\)": npy(np.zeros((2, 2, 2, 2))),
        r"array of shape \(7,\)": npy(np.zeros(7)),
        "array of complex128": npy(np.zeros((2, 2), dtype=complex)),
        "array of <U1": npy(np.array([["a"]])),
        "truncated": npy(np.zeros((9, 9)))[:-1],
        "0x9 pixels|9x0 pixels": npy(np.zeros((9, 0))),
    }
    for reason, data in refused.items():
        with pytest.raises(BadImage, match=reason):
            decode(data, PixelFormat(1, "float32"))


def test_a_claim_of_many_bands_is_refused_before_anything_is_allocated() -> None:
    header = io.BytesIO()
    claim = {"descr": "<u2", "fortran_order": False, "shape": (9000, 9000, 13)}  # few pixels, but 2 GB
    np.lib.format.write_array_header_1_0(header, claim)
    with pytest.raises(BadImage, match="decompression bomb"):
        open_image(header.getvalue())


def test_a_volume_is_no_picture() -> None:
    data = tiff(np.zeros((4, 16, 16), dtype=np.uint16), volumetric=True, tile=(4, 16, 16), photometric="minisblack")
    with pytest.raises(BadImage, match="a volume of 4 slices"):
        open_image(data)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_deep_tiff_is_refused(compression: str | None, share: float) -> None:
    levels = np.random.default_rng(0).integers(0, 60000, (64, 64, 5), dtype=np.uint16)
    data = tiff(levels, photometric="minisblack", planarconfig="contig", compression=compression, rowsperstrip=8)
    with pytest.raises(BadImage):
        decode(data[: int(share * len(data))], PixelFormat(5, "uint16"))


def test_a_transparent_palette_has_four_channels() -> None:
    palette = palette_image()
    data = encoded(palette, "PNG", transparency=1)
    assert open_image(data).stored == (4, "uint8")
    assert decode(data, PixelFormat(4)).tolist() == [[[200, 100, 50, 0], [10, 20, 30, 255]]]
    assert open_image(encoded(palette, "PNG")).stored == (3, "uint8")


def test_alpha_is_kept_where_it_is_wanted_and_dropped_where_not() -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    data = encoded(Image.fromarray(rgba), "PNG")
    assert np.array_equal(decode(data, PixelFormat(4)), rgba)
    assert np.array_equal(decode(data, COLOUR), rgba[:, :, :3])
    grey = encoded(Image.fromarray(rgba[:, :, :2]), "PNG")
    assert np.array_equal(decode(grey, PixelFormat(2)), rgba[:, :, :2])
    for data, channels in ((encoded(Image.fromarray(NOISE), "PNG"), 4), (encoded(Image.fromarray(NOISE), "JPEG"), 2)):
        with pytest.raises(BadImage, match=f"3 channels instead of {channels}"):
            decode(data, PixelFormat(channels))


# JPEG


PHOTO = Image.fromarray(NOISE[:8, :12]).resize((501, 375), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 30}]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_decoding_equals_pillow(options: dict[str, Any], channels: int) -> None:
    data = encoded(PHOTO, "JPEG", **options)
    reference = Image.open(io.BytesIO(data))
    reference.draft("L" if channels == 1 else "RGB", reference.size)
    expected = np.asarray(reference).reshape(375, 501, channels).astype(int)
    assert np.abs(decode(data, PixelFormat(channels)) - expected).max() <= 1


@pytest.mark.parametrize("value", [1, 6])
@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_jpeg_is_decoded_smaller_where_that_suffices(shrink: int, value: int) -> None:
    opened = open_image(encoded(PHOTO, "JPEG", exif=orientation(value)))
    assert opened.shrinks
    height, width = (375, 501) if value == 1 else (501, 375)
    assert (opened.height, opened.width) == (height, width)
    pixels = opened.decode(COLOUR, shrink=shrink)
    assert pixels.shape == (-(-height // shrink), -(-width // shrink), 3)
    upright = ImageOps.exif_transpose(with_orientation(np.asarray(PHOTO), value))
    expected = np.asarray(upright.resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - expected).mean() < 8


def test_a_jpeg_with_a_hole_is_refused_though_its_end_is_there() -> None:
    data = encoded(PHOTO, "JPEG")
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(BadImage, match="premature end"):
            decode(data[: int(share * len(data))] + b"\xff\xd9", COLOUR)


def test_padding_before_the_end_of_a_jpeg_does_no_harm() -> None:
    data = encoded(PHOTO, "JPEG")
    padded = data[:-2] + b"\1\2\3" + data[-2:]
    assert np.array_equal(decode(padded, COLOUR), decode(data, COLOUR))


def test_a_mode_without_conversion_is_refused_with_a_reason() -> None:
    with pytest.raises(BadImage, match="LAB"):
        decode(encoded(Image.new("LAB", (2, 2)), "TIFF"), PixelFormat(1))


def test_the_reason_for_an_error_without_a_message_is_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OverflowError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(BadImage, match=r"\(OverflowError\)$"):
        decode(b"", COLOUR)


def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused() -> None:
    data = encoded(PHOTO, "JPEG", progressive=True)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    tables = [data.rfind(b"\xff\xc4", 0, place) for place in scans[1:]]  # each scan comes with its Huffman table
    for place in tables:
        with pytest.raises(BadImage, match="scans are missing"):
            decode(data[:place] + b"\xff\xd9", COLOUR)
