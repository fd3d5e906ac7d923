"""Errors of patches and images are those of the loss, under masks that are the same each time."""

from typing import Any

import pytest
import torch

from openmae.core.decoder import DecoderConfig
from openmae.core.masking import Mask
from openmae.core.model import MaskedAutoencoder
from openmae.evaluation.views import fixed_masks, image_errors, patch_errors


def build(*, normalise_target: bool = True) -> MaskedAutoencoder:
    torch.manual_seed(0)
    options: dict[str, Any] = {"image_size": (32, 48), "patch_size": 8, "width": 24, "depth": 1, "heads": 2}
    decoder = DecoderConfig(width=16, depth=1, heads=2)
    return MaskedAutoencoder(
        "vit_tiny_patch16_224", decoder=decoder, normalise_target=normalise_target, **options
    ).eval()


@pytest.mark.parametrize("normalise_target", [True, False])
def test_the_error_of_an_image_is_its_loss(normalise_target: bool) -> None:
    model, images = build(normalise_target=normalise_target), torch.randn(3, 3, 32, 48)
    mask = fixed_masks(model.geometry, range(3), 0.75)
    errors = patch_errors(model, images, mask)
    assert errors.shape == (3, 24)
    found = image_errors(errors, mask)
    for place in range(3):
        alone = Mask(mask.kept[place : place + 1], mask.dropped[place : place + 1], mask.grid)
        assert found[place].item() == pytest.approx(model(images[place : place + 1], alone).loss.item(), rel=1e-4)


def test_an_error_belongs_to_its_patch() -> None:
    model, images = build(normalise_target=False), torch.zeros(1, 3, 32, 48)
    mask = fixed_masks(model.geometry, [0], 0.75)
    patch = int(mask.dropped[0, 5])  # hidden, so its content changes no prediction
    before = patch_errors(model, images, mask)
    row, column = divmod(patch, 6)
    images[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9
    changed = (patch_errors(model, images, mask) - before)[0].abs() > 1e-3
    assert changed.nonzero().flatten().tolist() == [patch]


def test_a_mask_depends_on_seed_and_index_alone() -> None:
    geometry = build().geometry
    several, one = fixed_masks(geometry, [4, 7, 9], 0.5, seed=1), fixed_masks(geometry, [7], 0.5, seed=1)
    assert torch.equal(several.dropped[1], one.dropped[0])
    assert one.grid == (4, 6)
    assert not torch.equal(several.dropped[0], several.dropped[1])
    assert not torch.equal(one.dropped, fixed_masks(geometry, [7], 0.5, seed=2).dropped)
    more = fixed_masks(geometry, [7], 0.75, seed=1)
    assert set(one.dropped[0].tolist()) < set(more.dropped[0].tolist())
    assert fixed_masks(geometry, [], 0.5).dropped.shape == (0, 12)


def test_reconstruct_draws_the_same_masks() -> None:
    from openmae.data.randomness import Stream, random_stream

    geometry = build().geometry
    noise = random_stream(5, Stream.MASK, index=2).random(24, dtype="float32")
    assert fixed_masks(geometry, [2], 0.75, seed=5).kept[0].tolist() == noise.argsort(kind="stable")[:6].tolist()
