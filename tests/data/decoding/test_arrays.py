"""Which axis of an array is which."""

import io

import numpy as np
import pytest

from openmae.data.decoding import BadImage, PixelFormat, Reading, open_image
from openmae.data.decoding.arrays import encode_array
from tests.data.decoding.crafting import npy

CHANNELS_FIRST = [(3, 48, 48), (1, 28, 28), (4, 200, 300), (13, 64, 64), (32, 100, 120), (3, 33, 48)]
CHANNELS_LAST = [
    (48, 48, 3),
    (28, 28, 1),
    (200, 300, 4),
    (64, 64, 13),
    (16, 16, 200),
    (48, 48, 48),
    (5, 48, 3),
    (20, 20, 7),
]
EITHER = [(4, 5, 6), (3, 48, 3), (30, 40, 50), (20, 20, 20)]


def counted(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


@pytest.mark.parametrize("shape", CHANNELS_FIRST)
@pytest.mark.parametrize("order", ["C", "F"])
def test_channels_are_first_where_only_that_makes_sense(shape: tuple[int, ...], order: str) -> None:
    array = np.asarray(counted(shape), order=order)  # type: ignore[call-overload]
    opened = open_image(npy(array))
    assert (opened.stored.channels, opened.height, opened.width) == shape
    assert np.array_equal(opened.decode(opened.stored), np.moveaxis(array, 0, -1))


@pytest.mark.parametrize("shape", CHANNELS_LAST)
def test_channels_are_last_where_that_makes_sense(shape: tuple[int, ...]) -> None:
    opened = open_image(npy(counted(shape)))
    assert (opened.height, opened.width, opened.stored.channels) == shape
    assert np.array_equal(opened.decode(opened.stored), counted(shape))


@pytest.mark.parametrize("shape", EITHER)
def test_an_array_that_may_be_either_says_so(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadImage, match=r"which may be \[height, width, channels\] or \[channels, height, width\]"):
        open_image(npy(counted(shape)))


def test_the_channels_of_the_data_set_decide_where_the_shape_does_not() -> None:
    data = npy(counted((4, 5, 6)))
    assert open_image(data, Reading(channels=4)).stored == PixelFormat(4, "uint16")
    assert open_image(data, Reading(channels=6)).stored == PixelFormat(6, "uint16")
    assert open_image(npy(counted((3, 48, 48))), Reading(channels=48)).stored == PixelFormat(3, "uint16")


@pytest.mark.parametrize("shape", [*CHANNELS_FIRST, *CHANNELS_LAST, *EITHER])
def test_arrays_that_we_write_are_read_with_the_same_axes(shape: tuple[int, ...]) -> None:
    data = encode_array(counted(shape))
    opened = open_image(data, Reading(channels=shape[0]))
    assert np.array_equal(opened.decode(opened.stored), counted(shape))
    assert np.array_equal(np.load(io.BytesIO(data)), counted(shape))
