"""Pixels without data: recognised, marked, left out of what is measured, filled with the mean of their channel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openmae.data.decoding import BadImage, PixelFormat, Pixels, Reading, open_image
from openmae.data.nodata import Extremes, find_far_value
from openmae.data.sources import open_data
from openmae.data.statistics import RunningStatistics, measure
from openmae.data.transforms import normalise_pixels, resize
from openmae.errors import UserError
from tests.data.decoding.crafting import encoded, npy, tiff

FLOATS = np.random.default_rng(0).normal(0.2, 0.05, (40, 48, 2)).astype(np.float32)
GREY = np.random.default_rng(0).integers(100, 4000, (40, 48)).astype(np.uint16)


def bordered(pixels: Pixels, value: float) -> Pixels:
    """The image with its first six columns of one value."""
    changed = pixels.copy()
    changed[:, :6] = value
    return changed


def tagged(pixels: Pixels, text: str, **options: Any) -> bytes:
    """A TIFF with the value that GDAL's tag names."""
    tag = (42113, 2, len(text) + 1, text, True)
    return tiff(pixels, photometric="minisblack", metadata=None, extratags=[tag], **options)


LOWEST = -1.7976931348623157e308
FILES: dict[str, tuple[bytes, Reading]] = {
    "tag of floats": (tagged(bordered(GREY.astype(np.float32), -9999), "-9999"), Reading()),
    "tag of whole numbers": (tagged(bordered(GREY, 0), "0"), Reading()),
    "tag of signed numbers": (tagged(bordered(GREY.astype(np.int16), -32768), "-32768 "), Reading()),
    "tag of doubles": (tagged(bordered(GREY.astype(np.float64), LOWEST), "-1.79769313486232e+308"), Reading()),
    "flag, TIFF": (tiff(bordered(GREY, 65535)), Reading(nodata=65535.0)),
    "flag, white is zero": (tiff(bordered(GREY, 7), photometric="miniswhite"), Reading(nodata=7.0)),
    "flag, .npy": (npy(bordered(GREY, 0)), Reading(nodata=0.0)),
    "flag, PNG": (encoded(Image.fromarray(bordered(GREY, 0)), "PNG"), Reading(nodata=0.0)),
    "flag before tag": (tagged(bordered(GREY, 0), "150"), Reading(nodata=0.0)),
    "NaN, TIFF": (tiff(bordered(GREY.astype(np.float32), np.nan)), Reading(nodata="none")),
    "NaN, .npy": (npy(bordered(GREY.astype(np.float64), np.nan)), Reading()),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reading"), FILES.values(), ids=FILES)
def test_pixels_without_data_are_marked_and_all_others_keep_their_value(data: bytes, reading: Reading) -> None:
    opened = open_image(data, reading)
    assert opened.stored == PixelFormat(1, "float32")
    pixels = opened.decode(opened.stored)[:, :, 0]
    values = 65535.0 - GREY[:, 6:] if opened.description == "TIFF 1xuint16" and reading.nodata == 7 else GREY[:, 6:]
    assert np.isnan(pixels[:, :6]).all()
    assert np.array_equal(pixels[:, 6:], values)


def test_8_bit_colour_is_marked_channel_by_channel() -> None:
    colours = np.full((9, 9, 3), 40, dtype=np.uint8)
    colours[2, 3, 1] = 0
    for data in (encoded(Image.fromarray(colours), "PNG"), tagged(colours, "0", planarconfig="contig")):
        pixels = open_image(data, Reading(nodata=0.0)).decode(PixelFormat(3, "float32"))
        assert np.isnan(pixels).sum() == 1
        assert np.isnan(pixels[2, 3, 1])


def test_a_type_that_cannot_mark_them_is_refused_only_where_there_are_any() -> None:
    with pytest.raises(BadImage, match=r"without data \(0\), which uint16 cannot mark; .*--nodata none"):
        open_image(tagged(bordered(GREY, 0), "0")).decode(PixelFormat(1, "uint16"))
    assert np.array_equal(open_image(tagged(GREY, "0")).decode(PixelFormat(1, "uint16"))[:, :, 0], GREY)


def test_the_user_can_take_the_value_of_a_tag_for_data() -> None:
    pixels = bordered(GREY, 0)
    opened = open_image(tagged(pixels, "0"), Reading(nodata="none"))
    assert opened.stored == PixelFormat(1, "uint16")
    assert np.array_equal(opened.decode(opened.stored)[:, :, 0], pixels)


def test_statistics_leave_them_out() -> None:
    running = RunningStatistics(2)
    running.add(bordered(FLOATS, np.nan))
    known = FLOATS[:, 6:].astype(np.float64)
    assert running.result().mean == pytest.approx(known.mean(axis=(0, 1)), rel=1e-4)
    assert running.result().std == pytest.approx(known.std(axis=(0, 1)), rel=1e-4)


def test_an_image_counts_for_the_share_of_it_that_holds_data() -> None:
    running = RunningStatistics(1)
    running.add(np.full((4, 4, 1), 1.0, dtype=np.float32))
    running.add(np.array([[[3.0], [np.nan], [np.nan], [np.nan]]], dtype=np.float32))
    running.add(np.full((4, 4, 1), np.nan, dtype=np.float32))
    assert running.result().mean == pytest.approx([(1 * 1.0 + 0.25 * 3.0) / 1.25], rel=1e-4)


def test_a_channel_without_any_data_is_an_error_that_names_it() -> None:
    running = RunningStatistics(2)
    pixels = FLOATS.copy()
    pixels[:, :, 1] = np.nan
    running.add(pixels)
    with pytest.raises(UserError, match="no pixel of channel 2 holds data"):
        running.result()


@pytest.mark.parametrize("size", [(20, 24), (13, 31), (80, 96)])
def test_resizing_lets_no_value_of_a_pixel_without_data_into_the_others(size: tuple[int, int]) -> None:
    resized = resize(bordered(FLOATS, np.nan), size, "bicubic")
    gap = np.isnan(resized)
    assert gap[:, : 6 * size[1] // 48].all()  # the border keeps its width
    assert not gap[:, 6 * size[1] // 48 + 1 :].any()
    assert np.abs(resized[~gap] - 0.2).max() < 0.5
    far = resize(FLOATS, size, "bicubic")
    assert np.allclose(resized[:, size[1] // 2 :], far[:, size[1] // 2 :], atol=1e-5)


def test_normalised_pixels_without_data_are_the_mean() -> None:
    images = torch.tensor([[[[0.3, float("nan")]]]])
    assert normalise_pixels(images, (0.2,), (0.1,)).flatten().tolist() == pytest.approx([1.0, 0.0])


FAR = {
    "satellite": (bordered(FLOATS, -9999), -9999.0, True),
    "heights": (bordered(FLOATS * 10000, -9999), -9999.0, True),
    "largest float": (bordered(FLOATS, float(np.finfo(np.float32).max)), float(np.finfo(np.float32).max), True),
    "clipped counts": (bordered(GREY, 65535), 65535.0, False),
    "zero below floats": (bordered(FLOATS + 5, 0), 0.0, False),
}
NEAR = {
    "noise": FLOATS,
    "black border": bordered(GREY, 100),
    "two values": bordered(np.zeros_like(GREY), 65535),
    "one odd pixel": np.where(np.arange(FLOATS.size).reshape(FLOATS.shape) == 5, np.float32(-9999), FLOATS),
    "nothing but gaps": np.full_like(FLOATS, np.nan),
}


@pytest.mark.parametrize(("pixels", "value", "certain"), FAR.values(), ids=FAR)
def test_a_value_far_from_all_others_is_found(pixels: Pixels, value: float, certain: bool) -> None:
    extremes = Extremes()
    for _ in range(2):
        extremes.add(pixels)
        extremes.add(pixels[:, 6:])
    found = extremes.far_value()
    assert found is not None
    assert (found.value, found.certain) == (value, certain)
    assert found.share == pytest.approx(6 / (48 + 42))


@pytest.mark.parametrize("pixels", NEAR.values(), ids=NEAR)
def test_ordinary_values_are_not_far(pixels: Pixels) -> None:
    extremes = Extremes()
    extremes.add(pixels)
    assert extremes.far_value() is None


def test_the_value_of_a_data_set_is_found_and_then_left_out(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(
            tiff(bordered(FLOATS, -9999) if number else FLOATS, planarconfig="contig")
        )
    source = open_data(str(tmp_path)).train
    found = find_far_value(source, Reading())
    assert found is not None
    assert found.value == -9999
    reading = Reading(nodata=found.value)
    assert find_far_value(source, reading) is None
    assert measure(source, PixelFormat(2, "float32"), reading).mean == pytest.approx([0.2, 0.2], abs=0.01)
