"""Operations on patches."""

import statistics

import pytest
import torch

from openmae.core.patches import normalise_patches, patch_statistics, patches_with_data, take_patches


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


def test_patches_hold_data_when_at_least_half_of_their_values_do() -> None:
    patches = torch.zeros(1, 3, 4)
    patches[0, 1, :2] = torch.nan
    patches[0, 2, :3] = torch.nan
    assert patches_with_data(patches).tolist() == [[True, True, False]]
