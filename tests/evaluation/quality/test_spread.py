"""Rank, deviation and dead channels of features that are as they should be, and of features that have collapsed."""

import math

import pytest
import torch

from openmae.evaluation.quality.spread import dead_channels, deviation, rank_me


def noise(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def test_the_rank_counts_the_directions_that_are_used() -> None:
    assert rank_me(torch.eye(8)) == pytest.approx(8, abs=1e-3)
    assert rank_me(torch.ones(10, 8)) == pytest.approx(1, abs=1e-3)
    directions = noise(3, 16)
    assert 1 < rank_me(noise(100, 3) @ directions) < 3.01
    assert rank_me(noise(1000, 16)) > 15


def test_the_rank_is_the_published_formula() -> None:
    features = torch.diag(torch.tensor([3.0, 1.0]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert rank_me(features) == pytest.approx(math.exp(entropy), rel=1e-5)


def test_features_that_spread_have_deviation_1_and_collapsed_ones_0() -> None:
    assert deviation(noise(2000, 32)) == pytest.approx(1, abs=0.02)
    assert deviation(torch.ones(50, 32)) == pytest.approx(0, abs=1e-6)
    assert deviation(noise(1, 32).expand(50, -1) * torch.arange(1, 51)[:, None]) == pytest.approx(0, abs=1e-6)


def test_a_channel_that_is_nearly_the_same_for_all_images_is_dead() -> None:
    features = noise(100, 10)
    assert dead_channels(features) == 0
    features[:, 3] = 7.0
    features[:, 4] = 7.0 + 1e-3 * features[:, 5]
    assert dead_channels(features) == pytest.approx(0.2)
    assert dead_channels(torch.ones(100, 10)) == 1
