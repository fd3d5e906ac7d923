"""Any timm VisionTransformer, run on the visible patches only."""

import difflib
from typing import Any

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from openmae.core.geometry import Geometry
from openmae.core.masking import Mask
from openmae.core.patches import take_patches
from openmae.core.positions import AxisOrder, sincos_positions
from openmae.errors import UserError


def create_encoder(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    patch_size: int | None = None,
    channels: int = 3,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    **options: Any,
) -> VisionTransformer:
    """A timm VisionTransformer by name, without a classifier unless `num_classes` says so.

    Sizes that are None are as timm defines the model. `options` go to `timm.create_model` (drop_path_rate,
    global_pool, …).

    Raises:
        UserError: for an unknown name, a model that is no plain VisionTransformer, or an image size that the patch
            size does not divide.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models("vit_*"), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models('vit_*') lists them."
        raise UserError(f"timm has no model called {name!r}; {hint}")
    given = {"img_size": image_size, "patch_size": patch_size, "embed_dim": width, "depth": depth, "num_heads": heads}
    sizes = {key: value for key, value in given.items() if value is not None}
    vit = timm.create_model(name, pretrained=False, in_chans=channels, **{"num_classes": 0, **sizes, **options})
    plain = require_plain_vit(vit)
    encoder_geometry(plain)  # refuses a size that timm would cut to whole patches without a word
    return plain


def require_plain_vit(vit: nn.Module) -> VisionTransformer:
    """Return `vit` if patches can be dropped before its first layer, else raise UserError."""
    if not isinstance(vit, VisionTransformer):
        raise UserError(
            f"{type(vit).__name__} is not a timm VisionTransformer, so its patches cannot be hidden; use a vit_* model"
        )
    embed = vit.patch_embed
    if not isinstance(embed, PatchEmbed) or embed.proj.kernel_size != embed.proj.stride:
        raise UserError(
            "this model's patches overlap or pass through a convolutional stem, so hiding one would leak into its "
            "neighbours; use a vit_* model with a plain patch embedding"
        )
    if vit.num_prefix_tokens != vit.has_class_token + vit.num_reg_tokens:
        raise UserError(
            f"{type(vit).__name__} has prefix tokens other than a class token and registers; use a vit_* model without"
        )
    if not isinstance(vit.patch_drop, nn.Identity):
        raise UserError(
            "patch_drop_rate hides patches that the mask does not list; leave it at 0 and set the mask ratio"
        )
    return vit


def encoder_geometry(vit: VisionTransformer) -> Geometry:
    """Image size, patch size and grid of a timm VisionTransformer, each (vertical, horizontal)."""
    return Geometry(size=tuple(vit.patch_embed.img_size), patch=tuple(vit.patch_embed.patch_size))


def fix_positions(vit: VisionTransformer, axis_order: AxisOrder) -> None:
    """Replace the learnable positions by the fixed sine-cosine table (appendix A.1), in place.

    Raises:
        UserError: when the model has no position table.
    """
    if vit.pos_embed is None:
        raise UserError("this model has no absolute position table; use a vit_* model that has one")
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    table = sincos_positions(vit.embed_dim, encoder_geometry(vit).grid, prefix_tokens=prefix, axis_order=axis_order)
    vit.pos_embed = nn.Parameter(table.to(vit.pos_embed), requires_grad=False)


def initialise(module: nn.Module, *, mlp_bias_std: float = 0.0) -> None:
    """Initialise as the reference does, in place.

    Linear layers and the patch projection (as a Linear [D, P]): Xavier-uniform, zero bias. LayerNorm: 1 and 0. Class,
    register and mask tokens: normal with std .02. MMSelfSup draws the MLPs' biases with std 1e-6 (`mlp_bias_std`).
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.view(part.weight.shape[0], -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
                if mlp_bias_std and ".mlp." in f".{name}.":
                    nn.init.normal_(part.bias, std=mlp_bias_std)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.rsplit(".", 1)[-1] in ("cls_token", "reg_token", "mask_token"):
            nn.init.normal_(parameter, std=0.02)


def encode(vit: VisionTransformer, patches_BLP: Tensor, mask: Mask | None) -> Tensor:
    """Encode the patches that `mask` keeps, or every patch when it is None.

    Hidden patches are dropped before the patch projection, so the encoder does no work for them (section 3, "MAE
    encoder").

    Args:
        vit: a timm VisionTransformer; its train/eval mode is the caller's choice and only governs dropout.
        patches_BLP: patches as `Geometry.patchify` orders them.
        mask: lists the patches to keep; the result has them in the order of `mask.kept`.

    Returns:
        Tokens after the final norm, [B, prefix + K, D]; the prefix is CLS and registers, if the model has them.
    """
    visible_BKP = patches_BLP if mask is None else take_patches(patches_BLP, mask.kept)
    tokens_BKD = vit.patch_embed.norm(_project(vit, visible_BKP))

    prefix_positions, patch_positions = _split_positions(vit)
    if patch_positions is not None:
        positions = patch_positions.expand(patches_BLP.shape[0], -1, -1)
        tokens_BKD = tokens_BKD + (positions if mask is None else take_patches(positions, mask.kept))

    prefix: list[Tensor] = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
    if prefix:
        prefix_1TD = torch.cat(prefix, dim=1)
        if prefix_positions is not None:
            prefix_1TD = prefix_1TD + prefix_positions
        tokens_BKD = torch.cat([prefix_1TD.expand(tokens_BKD.shape[0], -1, -1).to(tokens_BKD), tokens_BKD], dim=1)

    tokens_BTD = vit.norm_pre(vit.pos_drop(tokens_BKD))
    for block in vit.blocks:
        tokens_BTD = checkpoint(block, tokens_BTD, use_reentrant=False) if vit.grad_checkpointing else block(tokens_BTD)
    encoded: Tensor = vit.norm(tokens_BTD)
    return encoded


def encode_images(vit: VisionTransformer, images: Tensor) -> Tensor:
    """Every patch of `images` [B, C, H, W] encoded, unmasked: [B, prefix + L, D]."""
    return encode(vit, encoder_geometry(vit).patchify(images), mask=None)


def _project(vit: VisionTransformer, patches_BKP: Tensor) -> Tensor:
    """The patch embedding: its convolution as a matrix product, on patches in (row, column, channel) order."""
    projection = vit.patch_embed.proj
    weight_DP = projection.weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(patches_BKP, weight_DP, projection.bias)


def _split_positions(vit: VisionTransformer) -> tuple[Tensor | None, Tensor | None]:
    """The positions of the prefix tokens [1, prefix, D] and of the patches [1, L, D]; None where there are none."""
    if vit.pos_embed is None:
        return None, None
    if vit.no_embed_class or not vit.num_prefix_tokens:
        return None, vit.pos_embed
    return vit.pos_embed[:, : vit.num_prefix_tokens], vit.pos_embed[:, vit.num_prefix_tokens :]
