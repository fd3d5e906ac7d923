"""Large photographs are read, at the scale that the crop needs; sizes that only attacks have are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmae.data.batches import SeededImages
from openmae.data.decoding import MAX_PIXELS, BadImage, PixelFormat, Reading, open_image
from openmae.data.decoding import opened as opened_module
from openmae.data.sources import open_data
from openmae.data.statistics import RunningStatistics
from openmae.data.transforms import TrainTransform
from tests.data.decoding.crafting import encoded, npy_claiming, png, tiff_header, tiff_tags

COLOUR = PixelFormat()
SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """A JPEG of 180 megapixels of one grey, above both limits of Pillow."""
    return encoded(Image.new("L", (15_000, 12_000), 77), "JPEG", quality=50)


def test_a_photograph_of_180_megapixels_is_read_at_the_scale_that_the_crop_needs(
    photograph: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photograph)
    transform = TrainTransform(size=(64, 64), crop_scale=(0.9, 1.0))
    images = SeededImages(source=open_data(str(tmp_path)).train, transform=transform, format=PixelFormat(1))
    sample = images[0, 0]
    assert not sample.bad
    assert abs(int(sample.views[0].mean()) - 77) <= 1


def test_pillows_limit_is_as_the_program_set_it(photograph: bytes) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert open_image(photograph).width == 15_000
    assert before == Image.MAX_IMAGE_PIXELS == 89_478_485


def test_memory_is_compared_with_the_scaled_size_before_decoding(
    photograph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_module, "memory_of_a_worker", lambda: 400_000_000)
    opened = open_image(photograph)
    with pytest.raises(BadImage, match=r"not enough memory \(540 MB needed, 400 MB free for each worker\)"):
        opened.decode(PixelFormat(1))
    assert opened.decode(PixelFormat(1), shrink=8).shape == (1500, 1875, 1)


def test_a_progressive_jpeg_counts_the_coefficients_that_its_decoder_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_module, "LARGE_BYTES", 50_000)
    monkeypatch.setattr(opened_module, "memory_of_a_worker", lambda: 200_000)
    assert open_image(encoded(SMALL, "JPEG")).decode(COLOUR).shape == (100, 120, 3)
    with pytest.raises(BadImage, match="not enough memory"):
        open_image(encoded(SMALL, "JPEG", progressive=True)).decode(COLOUR, shrink=8)


CLAIMS = {
    "jpeg": encoded(SMALL, "JPEG"),
    "png": encoded(SMALL, "PNG"),
    "webp": encoded(SMALL, "WEBP"),
    "tiff": encoded(SMALL, "TIFF"),
    "npy": npy_claiming((100, 120, 3), "|u1") + bytes(36_000),
}


@pytest.mark.parametrize("data", CLAIMS.values(), ids=CLAIMS)
def test_the_bound_moves_for_every_format(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"120x100 pixels of 3 channels, .*; see --max-pixels"):
        open_image(data, Reading(max_pixels=11_999))
    assert open_image(data, Reading(max_pixels=12_000)).decode(COLOUR).shape == (100, 120, 3)


def test_a_raised_bound_still_ends_at_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_module, "memory_of_a_worker", lambda: 2**32)
    reading = Reading(max_pixels=10 * MAX_PIXELS)
    bombs = [
        png(40_000, 40_000, depth=8, colour=2, rows=b""),
        tiff_tags(tiff_header(40_000, 40_000), bytes(64)),
        npy_claiming((40_000, 40_000, 3), "|u1"),
    ]
    for bomb in bombs:
        with pytest.raises(BadImage, match="not enough memory"):
            open_image(bomb, reading)


def test_statistics_of_a_large_image_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.asarray(SMALL)
    whole, parts = RunningStatistics(3), RunningStatistics(3)
    whole.add(pixels)
    monkeypatch.setattr("openmae.data.statistics.ROWS", 700)
    parts.add(pixels)
    assert parts.result() == whole.result()
