"""The light decoder: it receives the encoded visible tokens and the mask, and predicts every patch."""

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from openmae.core.masking import Mask
from openmae.core.patches import take_patches
from openmae.core.positions import AxisOrder, sincos_positions
from openmae.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The size of the decoder; the defaults are the paper's (appendix A.1).

    Raises:
        UserError: when `heads` does not divide `width`.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"a decoder of width {self.width} cannot be split among {self.heads} heads; change either")


class Decoder(nn.Module):
    """Transformer over visible tokens and mask tokens, then one linear layer to the values of each patch (section 3).

    The names of the parameters are the reference's (`decoder_embed`, `mask_token`, …) without their `decoder_`.

    Args:
        config: width, depth and heads.
        encoder_width: D of the tokens that it receives.
        prefix_tokens: how many of these come before the patches (CLS, registers).
        grid: the number of patches along each of one, two or three axes.
        patch_values: P, the number of values that it predicts for each patch.
        axis_order: see `sincos_positions`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        encoder_width: int,
        prefix_tokens: int,
        grid: tuple[int, ...],
        patch_values: int,
        axis_order: AxisOrder = "column-first",
    ) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        table = sincos_positions(config.width, grid, prefix_tokens=prefix_tokens, axis_order=axis_order)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        norm = partial(nn.LayerNorm, eps=1e-6)
        block_norm = cast(type[nn.Module], norm)  # timm only calls it, but annotates it as a class
        self.blocks = nn.Sequential(
            *(
                Block(config.width, config.heads, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=block_norm)
                for _ in range(config.depth)
            )
        )
        self.norm = norm(config.width)
        self.pred = nn.Linear(config.width, patch_values)

    def forward(self, tokens_BTD: Tensor, mask: Mask) -> Tensor:
        """Encoded tokens [B, prefix + K, D] and their mask to a prediction for every patch [B, L, P], in grid order."""
        visible = self.embed(tokens_BTD)
        batch, hidden = mask.dropped.shape
        tokens = torch.cat([visible, self.mask_token.expand(batch, hidden, -1).to(visible)], dim=1)

        # A transformer ignores the order of its tokens. So each token receives the position of its patch, and only the
        # prediction is put into the grid's order.
        order_BL = torch.cat([mask.kept, mask.dropped], dim=1)
        positions = self.pos_embed.expand(batch, -1, -1)
        prefix_positions, patch_positions = positions[:, : self.prefix_tokens], positions[:, self.prefix_tokens :]
        tokens = tokens + torch.cat([prefix_positions, take_patches(patch_positions, order_BL)], dim=1)

        tokens = self.norm(self.blocks(tokens))
        prediction_BLP: Tensor = self.pred(tokens[:, self.prefix_tokens :])  # CLS takes part but is not predicted
        return take_patches(prediction_BLP, order_BL.argsort(dim=1))
