"""The trivial predictors predict what their names say, and their errors are on the scale of the loss."""

import math

import pytest
import torch
from torch import Tensor

from openmae.core.geometry import Geometry
from openmae.core.masking import Mask, random_mask
from openmae.evaluation.quality.trivial import (
    Masked,
    nearest_visible,
    own_means,
    smooth_interpolation,
    trivial_errors,
    visible_pixels,
)

GEOMETRY = Geometry(size=(16, 16), patch=(4, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked(images: Tensor, kept: int = 4) -> Masked:
    mask = random_mask(batch=len(images), patches=(4, 4), kept=kept, generator=generator())
    return Masked(images, mask, torch.ones(len(images), 16, dtype=torch.bool))


def test_every_patch_is_its_own_mean() -> None:
    patches = torch.rand(2, 16, 48, generator=generator())
    assert torch.equal(own_means(patches)[1, 5], patches[1, 5].mean().expand(48))


def test_the_nearest_visible_patch_is_taken_and_a_visible_one_is_itself() -> None:
    patches = torch.arange(16.0).reshape(1, 16, 1)
    kept = torch.tensor([[0, 15]])
    dropped = torch.tensor([[index for index in range(16) if index not in (0, 15)]])
    found = nearest_visible(patches, Mask(kept, dropped, (4, 4)))[0, :, 0].reshape(4, 4)
    assert found[0].tolist() == [0, 0, 0, 0], "of two equally near ones the first that is kept"
    assert found.diagonal().tolist() == [0, 0, 15, 15]
    assert found[3].tolist() == [0, 15, 15, 15]


def test_of_equally_near_patches_the_first_that_is_kept_is_taken() -> None:
    patches = torch.arange(3.0).reshape(1, 3, 1)
    for first, second in ((0, 2), (2, 0)):
        mask = Mask(torch.tensor([[first, second]]), torch.tensor([[1]]), (1, 3))
        assert nearest_visible(patches, mask)[0, 1, 0] == first


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (7, 1), (1, 1)])
def test_interpolation_keeps_what_is_visible_and_fills_a_constant_exactly(size: tuple[int, int]) -> None:
    images = torch.full((1, 2, *size), 0.7)
    visible = torch.zeros(1, 1, *size, dtype=torch.bool)
    visible[..., 0, 0] = True
    hidden_is_lost = torch.where(visible, images, torch.nan).nan_to_num(9.0)
    torch.testing.assert_close(smooth_interpolation(hidden_is_lost, visible), images)


def test_interpolation_of_a_smooth_image_is_better_than_the_nearest_patch() -> None:
    wave = torch.sin(torch.linspace(0, 3, 16))
    images = (wave[:, None] + wave[None]).expand(8, 3, 16, 16).contiguous()
    errors = trivial_errors(GEOMETRY, [masked(images, kept=8)], normalised=False)
    assert errors.smooth < 0.8 * errors.nearest


def test_hidden_pixels_have_no_influence_on_nearest_and_smooth() -> None:
    part = masked(torch.rand(3, 3, 16, 16, generator=generator()))
    visible = visible_pixels(GEOMETRY, part.mask)
    other = torch.where(visible, part.images, 5.0)
    assert int(visible.sum()) == 3 * 4 * 16
    assert torch.equal(smooth_interpolation(part.images, visible), smooth_interpolation(other, visible))
    one, two = (nearest_visible(GEOMETRY.patchify(images), part.mask) for images in (part.images, other))
    assert torch.equal(one, two)


def test_for_normalised_targets_of_noise_nothing_is_better_than_zero() -> None:
    images = torch.randn(64, 3, 16, 16, generator=generator())
    errors = trivial_errors(GEOMETRY, [masked(images)], normalised=True)
    assert errors.own_mean == pytest.approx(47 / 48, abs=1e-4), "1, but for the unbiased variance"
    assert errors.constant is not None
    for error in (errors.nearest, errors.smooth, errors.constant):
        assert 0.99 * errors.own_mean < error <= errors.own_mean


def test_for_the_same_patch_everywhere_the_best_constant_and_the_nearest_patch_are_right() -> None:
    patch = torch.randn(3, 4, 4, generator=generator())
    errors = trivial_errors(GEOMETRY, [masked(patch.repeat(5, 1, 4, 4))], normalised=True)
    assert errors.own_mean > 0.9
    assert errors.constant == pytest.approx(0, abs=1e-9)
    assert errors.nearest == pytest.approx(0, abs=1e-9)


def test_raw_targets_have_no_best_constant_and_no_factor() -> None:
    images = torch.randn(8, 3, 16, 16, generator=generator())
    part = masked(images)
    errors = trivial_errors(GEOMETRY, [part], normalised=False)
    patches = GEOMETRY.patchify(images)
    squares = (nearest_visible(patches, part.mask) - patches).square().mean(dim=-1)
    assert errors.nearest == pytest.approx(float(squares.gather(1, part.mask.dropped).mean()), rel=1e-5)
    assert errors.constant is None
    assert errors.nearest > 1.5, "two independent values differ by twice their variance"


def test_batches_and_patches_without_data() -> None:
    images = torch.randn(6, 3, 16, 16, generator=generator())
    whole = masked(images)
    parts = [
        Masked(whole.images[rows], Mask(whole.mask.kept[rows], whole.mask.dropped[rows], (4, 4)), whole.counted[rows])
        for rows in (slice(4), slice(4, 6))
    ]
    together, apart = (trivial_errors(GEOMETRY, some, normalised=True) for some in ([whole], parts))
    assert all(math.isclose(one, other) for one, other in zip(together, apart, strict=True) if one and other)
    nothing = whole._replace(counted=torch.zeros(6, 16, dtype=torch.bool))
    assert trivial_errors(GEOMETRY, [nothing], normalised=True) == (0, 0, 0, 0)
    half = whole.counted.clone()
    half[3:] = False
    spoilt = images.clone()
    spoilt[3:] = 100.0
    some = trivial_errors(GEOMETRY, [whole._replace(counted=half)], normalised=False)
    assert some == trivial_errors(GEOMETRY, [whole._replace(images=spoilt, counted=half)], normalised=False)
