"""Colours of patches are the principal components of all images together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from openmae.evaluation.views import patch_colours


def features(seed: int = 0, *, images: int = 4, patches: int = 30, width: int = 8) -> np.ndarray:
    """Features whose components differ clearly in variance."""
    scales = 2.0 ** -np.arange(width)
    return (np.random.default_rng(seed).normal(size=(images, patches, width)) * scales + 5).astype(np.float32)


def test_colours_rank_the_patches_as_scikit_learns_components_do() -> None:
    given_NLD = features()
    colours = patch_colours(given_NLD).reshape(-1, 3)
    expected = PCA(3).fit_transform(given_NLD.reshape(-1, 8).astype(np.float64))
    inside = ((colours > 0) & (colours < 1)).all(axis=1)
    assert inside.sum() > 100
    for component in range(3):
        assert abs(np.corrcoef(colours[inside, component], expected[inside, component])[0, 1]) > 1 - 1e-5


@given(order=st.permutations(range(4)), scale=st.sampled_from([0.5, 1, 2, 1024]))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_the_images_nor_the_scale_changes_a_colour(order: list[int], scale: float) -> None:
    given_NLD = features()
    shuffled = patch_colours(given_NLD[order] * np.float32(scale))
    assert shuffled == pytest.approx(patch_colours(given_NLD)[order], abs=1e-5)


def test_the_sign_follows_the_largest_loading_and_nothing_else() -> None:
    given_NLD = features()
    assert patch_colours(-given_NLD) == pytest.approx(1 - patch_colours(given_NLD), abs=1e-5)
    # The first feature has the largest variance, so it is red: the more of it, the more red.
    red = patch_colours(given_NLD)[..., 0]
    assert np.corrcoef(red.ravel(), given_NLD[..., 0].ravel())[0, 1] > 0.9


def test_one_patch_that_is_far_away_leaves_the_others_their_colours() -> None:
    given_NLD = features(patches=100)
    given_NLD[0, 0] += 500
    colours = patch_colours(given_NLD)
    assert np.ptp(colours[1:], axis=(0, 1)).min() > 0.9


@pytest.mark.parametrize("width", [1, 2, 5])
def test_what_does_not_vary_is_in_the_middle(width: int) -> None:
    assert (patch_colours(np.full((2, 9, width), 3.7, dtype=np.float32)) == 0.5).all()
    line_NLD = np.full((2, 9, width), 3.7, dtype=np.float32)
    line_NLD[..., 0] = np.arange(18).reshape(2, 9)
    colours = patch_colours(line_NLD)
    assert np.ptp(colours[..., 0]) == 1
    assert (colours[..., 1:] == 0.5).all()
