"""Images to patches and back."""

import re
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.core.patches import (
    normalise_patches,
    patch_grid,
    patch_statistics,
    patchify,
    take_patches,
    unpatchify,
)

SIDES = st.integers(1, 5)


@settings(max_examples=50, deadline=None)
@given(batch=st.integers(1, 3), channels=st.integers(1, 6), rows=SIDES, columns=SIDES, height=SIDES, width=SIDES)
def test_unpatchify_undoes_patchify(
    batch: int, channels: int, rows: int, columns: int, height: int, width: int
) -> None:
    images = torch.arange(batch * channels * rows * height * columns * width, dtype=torch.float64)
    images = images.reshape(batch, channels, rows * height, columns * width)
    patches = patchify(images, (height, width))
    assert patches.shape == (batch, rows * columns, height * width * channels)
    assert torch.equal(unpatchify(patches, (height, width), (rows, columns)), images)


@pytest.mark.parametrize("patch", [(2, 3), (3, 2), (1, 4)])
def test_patches_run_row_by_row_and_their_values_by_row_column_channel(patch: tuple[int, int]) -> None:
    rows, columns, channels = 3, 2, 3
    images = torch.randn(2, channels, rows * patch[0], columns * patch[1])
    patches = patchify(images, patch)
    for row in range(rows):
        for column in range(columns):
            expected = [
                images[1, channel, row * patch[0] + y, column * patch[1] + x].item()
                for y in range(patch[0])
                for x in range(patch[1])
                for channel in range(channels)
            ]
            assert patches[1, row * columns + column].tolist() == expected


def test_patch_grid_counts_rows_before_columns() -> None:
    assert patch_grid((28, 60), (14, 10)) == (2, 6)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), patch=st.integers(2, 32))
def test_size_suggested_for_an_image_that_does_not_fit_does_fit(height: int, width: int, patch: int) -> None:
    if height % patch == 0 and width % patch == 0:
        assert patch_grid((height, width), (patch, patch)) == (height // patch, width // patch)
        return
    with pytest.raises(
        ValueError, match=f"{height}x{width} is not a multiple of the patch size {patch}x{patch}"
    ) as error:
        patch_grid((height, width), (patch, patch))
    suggestion = re.search(r"--image-size (\d+)x(\d+)", str(error.value))
    assert suggestion is not None
    rows, columns = patch_grid((int(suggestion[1]), int(suggestion[2])), (patch, patch))
    assert rows >= 1
    assert columns >= 1


def test_patchify_refuses_an_image_that_the_patch_does_not_divide() -> None:
    with pytest.raises(ValueError, match="250x256 is not a multiple of the patch size 16x16; use --image-size 256x256"):
        patchify(torch.zeros(1, 3, 250, 256), (16, 16))


def test_patch_statistics_use_the_unbiased_variance_and_the_epsilon_under_the_root() -> None:
    patches = torch.randn(2, 3, 5, dtype=torch.float64) * 1e-3  # small, so that the epsilon counts
    found = patch_statistics(patches)
    for image in range(2):
        for patch in range(3):
            values = patches[image, patch].tolist()
            assert found.mean[image, patch, 0].item() == pytest.approx(statistics.fmean(values), rel=1e-12)
            expected = (statistics.variance(values) + 1e-6) ** 0.5
            assert found.std[image, patch, 0].item() == pytest.approx(expected, rel=1e-12)


def test_normalised_patches_return_to_pixels_with_their_statistics() -> None:
    patches = torch.randn(2, 4, 12, dtype=torch.float64) * 7 + 3
    normalised = normalise_patches(patches)
    torch.testing.assert_close(normalised.mean(-1), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(normalised.var(-1), torch.ones(2, 4, dtype=torch.float64), rtol=0, atol=1e-5)
    mean, std = patch_statistics(patches)
    torch.testing.assert_close(normalised * std + mean, patches, rtol=1e-12, atol=1e-12)


def test_patch_of_one_colour_normalises_to_zero() -> None:
    assert torch.equal(normalise_patches(torch.full((1, 1, 12), 0.5)), torch.zeros(1, 1, 12))


def test_take_patches_takes_the_rows_of_each_image() -> None:
    patches = torch.randn(2, 5, 3)
    index = torch.tensor([[4, 0], [2, 2]])
    taken = take_patches(patches, index)
    expected = torch.stack([torch.stack([patches[b, i] for i in row]) for b, row in enumerate(index.tolist())])
    assert torch.equal(taken, expected)
