import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from openmae.data.decoding import PixelFormat
from openmae.data.decoding.arrays import encode_array
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.statistics import decoded_bytes, measure, sample, stored_formats, widest_type
from openmae.data.transforms import TrainTransform


class Arrays(Labelled):
    """A source of .npy arrays, JPEGs of them, or raw bytes."""

    def __init__(self, arrays: Sequence[NDArray[Any] | bytes], *, jpeg: bool = False) -> None:
        self.given = GivenLabels(pa.chunked_array([pa.nulls(len(arrays), pa.int64())]), where="arrays")
        self.arrays, self.jpeg = arrays, jpeg

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, index: int) -> bytes:
        array = self.arrays[index]
        if isinstance(array, bytes):
            return array
        if not self.jpeg:
            return encode_array(array)
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG")
        return buffer.getvalue()

    def name(self, index: int) -> str:
        return f"array-{index}"


def arrays(kind: str, count: int = 6, channels: int = 5) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 250, (4 + n, 9, channels)).astype(kind) * np.arange(1, channels + 1).astype(kind)
        for n in range(count)
    ]


@pytest.mark.parametrize(("kind", "largest"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_statistics_are_those_of_all_pixels_with_every_image_of_equal_weight(kind: str, largest: int) -> None:
    images = arrays(kind)
    found = measure(Arrays([*images, b"<html>"]), PixelFormat(5, kind))  # type: ignore[arg-type]
    weights = np.concatenate([np.full(image[:, :, 0].size, 1 / image[:, :, 0].size) for image in images])
    pixels = np.concatenate([image.reshape(-1, 5) for image in images]).astype(np.float64) / largest
    mean = np.average(pixels, axis=0, weights=weights)
    std = np.sqrt(np.average((pixels - mean) ** 2, axis=0, weights=weights))
    assert found.mean == pytest.approx(mean, rel=1e-4)
    assert found.std == pytest.approx(std, rel=1e-4)


def test_a_constant_channel_can_be_normalised() -> None:
    found = measure(Arrays([np.full((3, 3, 2), 51, dtype=np.uint8)]), PixelFormat(2))
    assert found == ((0.2, 0.2), (1.0, 1.0))


def test_statistics_without_a_readable_image_are_an_error_that_says_why() -> None:
    with pytest.raises(
        ValueError,
        match=r"none of the images can be read as 3 channels of uint8 \(array-1: 5 channels .*; set --channels",
    ):
        measure(Arrays(arrays("uint8", 2)), PixelFormat(3))


def test_a_sample_is_spread_over_the_whole_set() -> None:
    assert sample(10**6, 5) == [0, 250000, 500000, 749999, 999999]
    assert sample(3, 64) == [0, 1, 2]


def test_formats_are_read_from_headers_and_the_wider_integer_wins() -> None:
    mixed = Arrays([*arrays("uint8", 3), *arrays("uint16", 1), b"", *arrays("uint8", 1, channels=1)])
    formats = stored_formats(mixed)
    assert formats == {PixelFormat(5, "uint8"): 3, PixelFormat(5, "uint16"): 1, PixelFormat(1, "uint8"): 1}
    assert widest_type(formats) == "uint16"
    assert widest_type(stored_formats(Arrays([*arrays("float32", 3), *arrays("uint16", 2)]))) == "float32"
    assert widest_type(Counter()) == "uint8"


def test_the_decoded_size_is_infinite_when_most_images_are_decoded_smaller() -> None:
    small = TrainTransform(size=(8, 8), crop_scale=(0.2, 1.0))
    large = TrainTransform(size=(60, 60), crop_scale=(0.2, 1.0))
    photos = Arrays([np.zeros((64, 80, 3), dtype=np.uint8)] * 3, jpeg=True)
    assert decoded_bytes(photos, PixelFormat(), large) == 64 * 80 * 3
    assert decoded_bytes(photos, PixelFormat(), small) == np.inf
    assert decoded_bytes(Arrays(arrays("uint16", 1)), PixelFormat(5, "uint16"), small) == 4 * 9 * 5 * 2
