"""How a signal is cut into patches and put together again, for one, two and three axes."""

import re
from hashlib import sha256
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openmae.core.geometry import Geometry, size_text


@st.composite
def geometries(draw: st.DrawFn, *, largest: int = 4) -> Geometry:
    """A geometry of one, two or three axes."""
    axes = draw(st.integers(1, 3))
    sides = st.lists(st.integers(1, largest), min_size=axes, max_size=axes)
    patch, grid = draw(sides), draw(sides)
    size = tuple(count * side for count, side in zip(grid, patch, strict=True))
    return Geometry(size=size, patch=tuple(patch))


def numbered(*shape: int) -> Tensor:
    """A tensor in which every value occurs once."""
    count = torch.Size(shape).numel()
    return torch.arange(count).reshape(shape)


@settings(max_examples=100, deadline=None)
@given(geometry=geometries(), batch=st.integers(1, 2), channels=st.integers(1, 4))
def test_unpatchify_undoes_patchify(geometry: Geometry, batch: int, channels: int) -> None:
    signal = numbered(batch, channels, *geometry.size)
    patches = geometry.patchify(signal)
    assert patches.shape == (batch, geometry.patches, geometry.patch_values(channels))
    assert torch.equal(geometry.unpatchify(patches), signal)


@settings(max_examples=100, deadline=None)
@given(geometry=geometries(), batch=st.integers(1, 2), channels=st.integers(1, 4))
def test_patchify_undoes_unpatchify(geometry: Geometry, batch: int, channels: int) -> None:
    patches = numbered(batch, geometry.patches, geometry.patch_values(channels))
    signal = geometry.unpatchify(patches)
    assert signal.shape == (batch, channels, *geometry.size)
    assert torch.equal(geometry.patchify(signal), patches)


@settings(max_examples=100, deadline=None)
@given(geometry=geometries(largest=3), channels=st.integers(1, 3))
def test_every_patch_is_the_slice_at_its_place_of_the_grid(geometry: Geometry, channels: int) -> None:
    signal = numbered(2, channels, *geometry.size)
    patches = geometry.patchify(signal)
    places = list(product(*map(range, geometry.grid)))  # row-major: the last axis runs fastest
    assert len(places) == geometry.patches
    for image, (index, place) in product(range(2), enumerate(places)):
        patch = signal[image]
        for axis, (at, side) in enumerate(zip(place, geometry.patch, strict=True)):
            patch = patch.narrow(1 + axis, at * side, side)
        values = patch.movedim(0, -1)  # the channel runs fastest
        assert patches[image, index].tolist() == values.flatten().tolist()


@settings(max_examples=50, deadline=None)
@given(geometry=geometries())
def test_the_patches_of_the_grid_fill_the_signal(geometry: Geometry) -> None:
    assert geometry.axes == len(geometry.grid) == len(geometry.size)
    sides = zip(geometry.grid, geometry.patch, strict=True)
    assert tuple(count * side for count, side in sides) == geometry.size
    assert geometry.patches * geometry.patch_values(5) == 5 * torch.Size(geometry.size).numel()


@pytest.mark.parametrize("patch", [(2, 3), (3, 2), (1, 4)])
def test_patches_run_row_by_row_and_their_values_by_row_column_channel(patch: tuple[int, int]) -> None:
    rows, columns, channels = 3, 2, 3
    geometry = Geometry(size=(rows * patch[0], columns * patch[1]), patch=patch)
    images = torch.randn(2, channels, *geometry.size)
    patches = geometry.patchify(images)
    for row in range(rows):
        for column in range(columns):
            expected = [
                images[1, channel, row * patch[0] + y, column * patch[1] + x].item()
                for y in range(patch[0])
                for x in range(patch[1])
                for channel in range(channels)
            ]
            assert patches[1, row * columns + column].tolist() == expected


def test_the_order_of_two_axes_is_the_one_that_trained_weights_expect() -> None:
    # Computed by version 0.1.0, which knew two axes only.
    geometry = Geometry(size=(6, 8), patch=(3, 2))
    patches = geometry.patchify(numbered(2, 3, 6, 8))
    row = [170, 218, 266, 171, 219, 267, 178, 226, 274, 179, 227, 275, 186, 234, 282, 187, 235, 283]
    assert patches[1, 5].tolist() == row
    assert digest(patches) == "53ea0056d4e341a5418627c96d9b07ac8811d76caa25569da22b0c79551849ee"
    images = geometry.unpatchify(numbered(2, 8, 18))
    assert digest(images) == "16793a802ddfae6502d11330b13aaa66b8d7bb7400830452be3fa7462cb0ae5c"


def digest(tensor: Tensor) -> str:
    return sha256(tensor.numpy().tobytes()).hexdigest()


def test_grid_counts_the_outermost_axis_first() -> None:
    assert Geometry(size=(12,), patch=(4,)).grid == (3,)
    assert Geometry(size=(28, 60), patch=(14, 10)).grid == (2, 6)
    assert Geometry(size=(16, 28, 60), patch=(2, 14, 10)).grid == (8, 2, 6)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), patch=st.integers(2, 32))
def test_size_suggested_for_an_image_that_does_not_fit_does_fit(height: int, width: int, patch: int) -> None:
    if height % patch == 0 and width % patch == 0:
        assert Geometry(size=(height, width), patch=(patch, patch)).grid == (height // patch, width // patch)
        return
    with pytest.raises(
        ValueError, match=f"{height}x{width} is not a multiple of the patch size {patch}x{patch}"
    ) as error:
        Geometry(size=(height, width), patch=(patch, patch))
    suggestion = re.search(r"--image-size (\d+)x(\d+)", str(error.value))
    assert suggestion is not None
    rows, columns = Geometry(size=(int(suggestion[1]), int(suggestion[2])), patch=(patch, patch)).grid
    assert rows >= 1
    assert columns >= 1


@pytest.mark.parametrize(
    ("size", "patch", "message"),
    [
        ((250, 256), (16, 16), "an image of 250x256 .* 16x16; use --image-size 256x256 .* divides 250 and 256"),
        ((10,), (4,), "a signal of 10 is not a multiple of the patch size 4; use a size of 8 .* that divides 10$"),
        ((5, 8, 8), (2, 4, 4), "a signal of 5x8x8 .* 2x4x4; use a size of 4x8x8 .* that divides 5 and 8 and 8$"),
    ],
)
def test_size_that_the_patch_does_not_divide_is_refused(
    size: tuple[int, ...], patch: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Geometry(size=size, patch=patch)


@pytest.mark.parametrize(("size", "patch"), [((), ()), ((4, 4), (2,)), ((4,), (2, 2)), ((2, 2, 2, 2), (1, 1, 1, 1))])
def test_size_and_patch_of_different_or_too_many_axes_are_refused(
    size: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    message = f"the size has {len(size)} axes and the patch size {len(patch)}; give both the same number, from 1 to 3"
    with pytest.raises(ValueError, match=message):
        Geometry(size=size, patch=patch)


@pytest.mark.parametrize(("size", "patch"), [((0, 4), (2, 2)), ((4, 4), (2, 0)), ((-4,), (2,))])
def test_side_below_one_is_refused(size: tuple[int, ...], patch: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not possible; every side must be at least 1"):
        Geometry(size=size, patch=patch)


@pytest.mark.parametrize("size", [(8, 12), (12, 8), (8,), (2, 8, 8)])
def test_signal_of_another_size_is_not_cut(size: tuple[int, ...]) -> None:
    message = f"a signal of {size_text(size)} was given where one of 8x8 is expected; resize it"
    with pytest.raises(ValueError, match=message):
        Geometry(size=(8, 8), patch=(4, 4)).patchify(torch.zeros(1, 3, *size))


def test_compiling_keeps_patchify_in_one_graph() -> None:
    geometry = Geometry(size=(6, 8), patch=(3, 2))

    def there_and_back(images: Tensor) -> Tensor:
        return geometry.unpatchify(Geometry(size=geometry.size, patch=geometry.patch).patchify(images) * 2)

    images = torch.randn(2, 3, 6, 8)
    compiled = torch.compile(there_and_back, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images), images * 2)
