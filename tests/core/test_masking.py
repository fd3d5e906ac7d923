"""Which patches are hidden."""

import re
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.core.masking import kept_count, mask_from_noise, random_mask


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"), [(196, 0.75, 49), (196, 0.6, 78), (100, 0.8, 20), (256, 0.75, 64)]
)
def test_kept_count_rounds_down_but_forgives_float_error(patches: int, ratio: float, kept: int) -> None:
    assert kept_count(patches, ratio) == kept


@settings(max_examples=200, deadline=None)
@given(patches=st.integers(2, 4096), percent=st.integers(1, 99))
def test_kept_count_equals_exact_integer_arithmetic(patches: int, percent: int) -> None:
    kept = patches * (100 - percent) // 100
    if kept:
        assert kept_count(patches, percent / 100) == kept


@settings(max_examples=100, deadline=None)
@given(patches=st.integers(2, 5000), ratio=st.sampled_from([0.0, 1e-12, 0.99999]))
def test_ratios_suggested_for_a_bad_ratio_work(patches: int, ratio: float) -> None:
    with pytest.raises(ValueError, match=f"leaves none of {patches} patches (visible|hidden); use a ratio") as error:
        kept_count(patches, ratio)
    suggestion = re.search(r"between ([\d.]+) and ([\d.]+)$", str(error.value))
    assert suggestion is not None
    for suggested in suggestion.groups():
        if float(suggestion[1]) <= float(suggestion[2]):
            assert 0 < kept_count(patches, float(suggested)) < patches


@pytest.mark.parametrize("ratio", [1.0, 1.5, -0.1, 75.0, float("nan")])
def test_ratio_outside_zero_to_one_is_refused_with_the_usual_one(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"must be at least 0 and below 1, not .*; the paper uses 0\.75"):
        kept_count(196, ratio)


def test_single_patch_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="at least 2 patches, not 1; use larger images or smaller patches"):
        kept_count(1, 0.5)


@settings(max_examples=50, deadline=None)
@given(batch=st.integers(1, 4), patches=st.integers(1, 60), data=st.data())
def test_kept_and_dropped_together_are_a_permutation(batch: int, patches: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, patches))
    mask = random_mask(batch=batch, patches=patches, kept=kept, generator=generator(data.draw(st.integers(0, 2**31))))
    assert mask.kept.shape == (batch, kept)
    assert mask.patches == patches
    together = torch.cat([mask.kept, mask.dropped], dim=1)
    assert torch.equal(together.sort(dim=1).values, torch.arange(patches).expand(batch, -1))


def test_mask_from_noise_keeps_the_smallest_noise_smallest_first() -> None:
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.0, 0.4]])
    before = noise.clone()
    mask = mask_from_noise(noise, kept=2)
    assert mask.kept.tolist() == [[1, 3], [2, 0]]
    assert mask.dropped.tolist() == [[2, 0], [3, 1]]
    assert torch.equal(noise, before)


def test_equal_noise_keeps_the_first_patches() -> None:
    assert mask_from_noise(torch.zeros(1, 400), kept=5).kept.tolist() == [[0, 1, 2, 3, 4]]


def test_same_seed_gives_the_same_mask_and_another_seed_another() -> None:
    first, again, other = (random_mask(batch=2, patches=64, kept=16, generator=generator(s)) for s in (3, 3, 4))
    assert torch.equal(first.kept, again.kept)
    assert torch.equal(first.dropped, again.dropped)
    assert not torch.equal(first.kept, other.kept)


def test_images_of_one_batch_get_different_masks() -> None:
    mask = random_mask(batch=2, patches=64, kept=16, generator=generator(0))
    assert not torch.equal(mask.kept[0], mask.kept[1])


def test_generator_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    random_mask(batch=2, patches=64, kept=16, generator=generator(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_patch_is_hidden_equally_often() -> None:
    mask = random_mask(batch=10_000, patches=(3, 4), kept=3, generator=generator(0))
    hidden = mask.as_grid().double().mean(dim=0)
    # The standard deviation of each share is sqrt(.75 * .25 / 10000) = .0043.
    torch.testing.assert_close(hidden, torch.full((3, 4), 0.75, dtype=torch.float64), rtol=0, atol=0.02)


def test_patches_are_hidden_independently_of_their_neighbours() -> None:
    hidden = random_mask(batch=20_000, patches=12, kept=3, generator=generator(1)).as_grid().double()
    both = (hidden.T @ hidden / len(hidden))[~torch.eye(12, dtype=torch.bool)]
    torch.testing.assert_close(both, torch.full_like(both, 9 / 12 * 8 / 11), rtol=0, atol=0.02)


def test_as_grid_is_true_where_a_patch_is_dropped() -> None:
    noise = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    mask = mask_from_noise(noise, kept=2, grid=(2, 3))
    expected = torch.tensor([[[0, 0, 1], [1, 1, 1]], [[1, 1, 1], [1, 0, 0]]], dtype=torch.bool)
    assert torch.equal(mask.as_grid(), expected)
    assert torch.equal(mask._replace(grid=None).as_grid(), expected.flatten(1))


@settings(max_examples=50, deadline=None)
@given(grid=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), data=st.data())
def test_grid_of_any_number_of_axes_shows_each_dropped_patch_at_its_place(
    grid: tuple[int, ...], data: st.DataObject
) -> None:
    patches = prod(grid)
    kept = data.draw(st.integers(1, patches))
    mask = random_mask(batch=2, patches=grid, kept=kept, generator=generator(data.draw(st.integers(0, 2**31))))
    assert (mask.patches, mask.grid) == (patches, grid)
    hidden = mask.as_grid()
    assert hidden.shape == (2, *grid)
    for image in range(2):
        places = [place for place in product(*map(range, grid)) if hidden[(image, *place)]]
        numbers = [sum(at * prod(grid[axis + 1 :]) for axis, at in enumerate(place)) for place in places]
        assert sorted(mask.dropped[image].tolist()) == numbers


def test_random_mask_knows_its_grid_only_when_told() -> None:
    assert random_mask(batch=1, patches=(2, 3), kept=2).grid == (2, 3)
    assert random_mask(batch=1, patches=6, kept=2).grid is None


@pytest.mark.parametrize("kept", [0, -1, 7])
def test_keeping_an_impossible_number_of_patches_is_refused(kept: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {kept} of 6 patches; keep between 1 and 6"):
        random_mask(batch=1, patches=(2, 3), kept=kept)


def test_mask_moves_to_a_device_whole() -> None:
    moved = random_mask(batch=1, patches=(2, 3), kept=2).to("meta")
    assert moved.kept.device.type == moved.dropped.device.type == "meta"
    assert moved.grid == (2, 3)
