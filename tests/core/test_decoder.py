"""The decoder: a prediction for every patch, in grid order."""

import pytest
import torch
from torch import Tensor, nn

from openmae.core.decoder import Decoder, DecoderConfig
from openmae.core.masking import Mask, random_mask
from openmae.core.positions import sincos_positions

GRID = (3, 4)
PATCHES = 12


def build(*, depth: int = 2, prefix: int = 1, grid: tuple[int, ...] = GRID) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(width=16, depth=depth, heads=4)
    decoder = Decoder(config, encoder_width=8, prefix_tokens=prefix, grid=grid, patch_values=6)
    with torch.no_grad():
        decoder.mask_token.normal_()
    return decoder


def some_mask(*, kept: int = 5) -> Mask:
    return random_mask(batch=2, patches=GRID, kept=kept, generator=torch.Generator().manual_seed(1))


def predict(decoder: Decoder, tokens: Tensor, mask: Mask) -> Tensor:
    with torch.no_grad():
        prediction: Tensor = decoder(tokens, mask)
    return prediction


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_prediction_has_a_row_for_every_patch_and_none_for_the_prefix(prefix: int) -> None:
    prediction = predict(build(prefix=prefix), torch.randn(2, prefix + 5, 8), some_mask())
    assert prediction.shape == (2, PATCHES, 6)


def test_class_token_takes_part_in_the_prediction() -> None:
    decoder, mask, tokens = build(), some_mask(), torch.randn(2, 6, 8)
    perturbed = tokens.clone()
    perturbed[0, 0] += 1
    before, after = predict(decoder, tokens, mask), predict(decoder, perturbed, mask)
    assert ((before[0] - after[0]).abs().amax(dim=-1) > 1e-4).all()
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize("grid", [GRID, (PATCHES,), (2, 3, 2)])
def test_prediction_is_in_the_order_of_a_grid_of_any_number_of_axes(grid: tuple[int, ...]) -> None:
    # Without blocks a token cannot see the others: each prediction depends on its own patch alone.
    decoder, mask, tokens = build(depth=0, grid=grid), some_mask(), torch.randn(2, 6, 8)
    positions = sincos_positions(16, grid)[0]
    prediction = predict(decoder, tokens, mask)
    with torch.no_grad():
        for image in range(2):
            for patch in mask.dropped[image].tolist():
                token = decoder.mask_token[0, 0] + positions[patch]
                torch.testing.assert_close(prediction[image, patch], decoder.pred(decoder.norm(token)))
            for rank, patch in enumerate(mask.kept[image].tolist()):
                token = decoder.embed(tokens[image, 1 + rank]) + positions[patch]
                torch.testing.assert_close(prediction[image, patch], decoder.pred(decoder.norm(token)))


def test_order_in_which_patches_were_kept_does_not_matter() -> None:
    decoder, mask, tokens = build(), some_mask(), torch.randn(2, 6, 8)
    flipped = Mask(kept=mask.kept.flip(1), dropped=mask.dropped.roll(3, dims=1))
    flipped_tokens = torch.cat([tokens[:, :1], tokens[:, 1:].flip(1)], dim=1)
    torch.testing.assert_close(predict(decoder, flipped_tokens, flipped), predict(decoder, tokens, mask))


def test_positions_are_the_frozen_table_with_zero_prefix_rows() -> None:
    decoder = build(prefix=5)
    assert not decoder.pos_embed.requires_grad
    assert torch.equal(decoder.pos_embed, sincos_positions(16, GRID, prefix_tokens=5))


def test_layer_norms_use_the_epsilon_of_the_reference() -> None:
    norms = [part for part in build().modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 1
    assert {norm.eps for norm in norms} == {1e-6}


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="a decoder of width 512 cannot be split among 7 heads; change either"):
        DecoderConfig(heads=7)


def test_width_that_has_no_position_table_is_refused() -> None:
    with pytest.raises(ValueError, match="a width that 4 divides, not 18; use 20"):
        Decoder(DecoderConfig(width=18, heads=2), encoder_width=8, prefix_tokens=1, grid=GRID, patch_values=6)


def test_defaults_are_those_of_the_paper() -> None:
    assert DecoderConfig() == DecoderConfig(width=512, depth=8, heads=16, mlp_ratio=4.0)
