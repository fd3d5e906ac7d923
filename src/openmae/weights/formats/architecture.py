"""The network that tensors are for, from their shapes and from what a configuration says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from openmae.core.decoder import DecoderConfig
from openmae.core.encoder import create_encoder
from openmae.core.geometry import size_text
from openmae.core.network import Interpolation, Network
from openmae.core.positions import AxisOrder, sincos_positions
from openmae.errors import UserError
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from openmae.recipes.values import usual_eval_resize

BACKBONES = {
    # (width, depth, patch size): timm's name
    (192, 12, 16): "vit_tiny_patch16_224",
    (384, 12, 8): "vit_small_patch8_224",
    (384, 12, 16): "vit_small_patch16_224",
    (384, 12, 32): "vit_small_patch32_224",
    (768, 12, 8): "vit_base_patch8_224",
    (768, 12, 16): "vit_base_patch16_224",
    (768, 12, 32): "vit_base_patch32_224",
    (1024, 24, 14): "vit_large_patch14_224",
    (1024, 24, 16): "vit_large_patch16_224",
    (1024, 24, 32): "vit_large_patch32_224",
    (1280, 32, 14): "vit_huge_patch14_224",
}
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
"""Attention heads of the published families, by width; the tensors do not show them."""
OTHER_SIZES = (192, 12, 16)
"""The plain backbone that width, depth, heads and patch size turn into any other, as in the small recipes."""
DECODER_HEADS = 16
MOST_BLOCKS = 1000  # as in a recipe

SIDECAR = 'a config.json beside the file with {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 4}}'
MOST_ENLARGED = 4  # a configuration that resizes to more before the crop is wrong
POSITION_TOLERANCE = 1e-3  # a half-precision file has the fixed table to about 5e-4


@dataclass(frozen=True, kw_only=True)
class Known:
    """The facts about a network that a layout and a configuration state; None where they are silent."""

    backbone: str | None = None
    """timm's name; None for a plain network: a class token, a position table, nothing else."""
    image_size: tuple[int, int] | None = None
    heads: int | None = None
    decoder_heads: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    imagenet: bool = False
    """Whether the project normalises colour images by ImageNet's mean and std."""
    interpolation: Interpolation = "bicubic"
    eval_resize: int | None = None
    normalise_target: bool = True
    axis_order: AxisOrder = "column-first"


class Described(NamedTuple):
    """A network, and what had to be assumed about it."""

    network: Network
    assumed: tuple[str, ...]


class _Base(NamedTuple):
    """The facts that a backbone's name states."""

    name: str
    patch: int
    width: int
    depth: int
    heads: int | None
    prefix: int
    has_positions: bool
    published: bool
    """Whether it has the size of a published network."""


def describe(tensors: Mapping[str, Tensor], file: Path, known: Known) -> Described:
    """The network of an encoder's tensors (timm's names), with `decoder.` where there is one.

    Raises:
        UserError: when they are incomplete, or do not say enough.
    """
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.")}
    kernel = _required(encoder, "patch_embed.proj.weight", 4, file)
    width, channels, patch, patch_width = kernel.shape
    if patch != patch_width:
        raise UserError(
            f"{file} has patches of {patch}x{patch_width} pixels; OpenMAE builds networks with square ones: give "
            "another file"
        )
    depth = block_count(encoder, "blocks.", file)
    base = _base(known.backbone, width, depth, patch)
    heads, assumed = _heads(width, base, file, known)
    image_size = _image_size(encoder, base, patch, file, known)
    mean, std, more = _statistics(channels, known)
    assumed += more
    network = Network(
        backbone=base.name,
        image_size=image_size,
        patch_size=None if base.patch == patch else patch,
        channels=channels,
        width=None if base.width == width else width,
        depth=None if base.depth == depth else depth,
        heads=None if base.heads == heads else heads,
        mean=mean,
        std=std,
        interpolation=known.interpolation,
        eval_resize=_eval_resize(image_size, file, known),
        normalise_target=known.normalise_target,
        axis_order=_axis_order(encoder, network_grid(image_size, patch), base.prefix) or known.axis_order,
    )
    if len(encoder) == len(tensors):
        return Described(network, assumed)
    decoder, more = _decoder(tensors, file, known)
    return Described(replace(network, decoder=decoder), (*assumed, *more))


def network_grid(image_size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The number of patches down and across."""
    return image_size[0] // patch, image_size[1] // patch


def block_count(tensors: Mapping[str, Tensor], prefix: str, file: Path) -> int:
    """How many blocks there are: numbered from 0 without a gap.

    Raises:
        UserError: when one is missing, or there are none.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})\.")
    numbers = {int(found[1]) for name in tensors if (found := pattern.match(name))}
    if not numbers or numbers != set(range(len(numbers))):
        missing = min(set(range(len(numbers) + 1)) - numbers)
        raise UserError(f"{file} lacks {prefix}{missing}; check that it was copied whole")
    if len(numbers) > MOST_BLOCKS:
        raise UserError(f"{file} has {len(numbers)} blocks; OpenMAE builds up to {MOST_BLOCKS}: give another file")
    return len(numbers)


def _base(backbone: str | None, width: int, depth: int, patch: int) -> _Base:
    if backbone is None:
        published = (width, depth, patch) in BACKBONES
        width, depth, patch = (width, depth, patch) if published else OTHER_SIZES
        return _Base(
            BACKBONES[width, depth, patch],
            patch=patch,
            width=width,
            depth=depth,
            heads=HEADS[width],
            prefix=1,
            has_positions=True,
            published=published,
        )
    with torch.device("meta"):
        vit = create_encoder(backbone)
    return _Base(
        backbone,
        patch=vit.patch_embed.patch_size[0],
        width=vit.embed_dim,
        depth=len(vit.blocks),
        heads=getattr(vit.blocks[0].attn, "num_heads", None),
        prefix=0 if vit.no_embed_class else vit.num_prefix_tokens,
        has_positions=vit.pos_embed is not None,
        published=(vit.embed_dim, len(vit.blocks)) == (width, depth),
    )


def _heads(width: int, base: _Base, file: Path, known: Known) -> tuple[int, tuple[str, ...]]:
    heads = known.heads or (base.heads if base.width == width else HEADS.get(width))
    if heads is None:
        raise UserError(
            f"{file} is {width} wide, and tensors do not show how many attention heads that has; write {SIDECAR}"
        )
    if width % heads:
        raise UserError(
            f"{file} is {width} wide, which {heads} attention heads cannot share; correct its configuration"
        )
    if known.heads or base.published:
        return heads, ()
    return heads, (f"it does not say its attention heads: {heads}, as in the published networks that are as wide",)


def _eval_resize(image_size: tuple[int, int], file: Path, known: Known) -> int:
    short = min(image_size)
    resized = max(known.eval_resize or usual_eval_resize(image_size), short)
    if resized > MOST_ENLARGED * short:
        raise UserError(
            f"{file} is for images of {size_text(image_size)}, but its configuration resizes them to {resized} before "
            "the crop; correct the configuration"
        )
    return resized


def _image_size(encoder: Mapping[str, Tensor], base: _Base, patch: int, file: Path, known: Known) -> tuple[int, int]:
    if not base.has_positions and known.image_size is not None:
        return known.image_size
    rows = _required(encoder, "pos_embed", 3, file).shape[1] - base.prefix
    if known.image_size is not None:
        grid = network_grid(known.image_size, patch)
        if grid[0] * grid[1] == rows:
            return known.image_size
        raise UserError(
            f"{file} has positions for {rows} patches, but its configuration says {size_text(known.image_size)} pixels "
            f"with patches of {patch}, which is {grid[0] * grid[1]}; correct the configuration"
        )
    side = isqrt(max(rows, 0))
    if rows < 1 or side * side != rows:
        raise UserError(
            f"{file} has positions for {rows} patches, which is no square; write a config.json beside it with "
            f'{{"architecture": "{base.name}", "model_args": {{"img_size": [HEIGHT, WIDTH]}}}}'
        )
    return side * patch, side * patch


def _statistics(channels: int, known: Known) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    if known.mean is not None and known.std is not None:
        return known.mean, known.std, ()
    if channels == len(IMAGENET_MEAN):
        note = "it does not say how pixels are normalised: ImageNet's mean and std"
        return IMAGENET_MEAN, IMAGENET_STD, () if known.imagenet else (note,)
    half = (0.5,) * channels
    return half, half, ("it does not say how pixels are normalised: mean 0.5 and std 0.5 in every channel",)


def _decoder(tensors: Mapping[str, Tensor], file: Path, known: Known) -> tuple[DecoderConfig, tuple[str, ...]]:
    width = _required(tensors, "decoder.embed.weight", 2, file).shape[0]
    hidden = _required(tensors, "decoder.blocks.0.mlp.fc1.weight", 2, file).shape[0]
    heads = known.decoder_heads
    assumed: tuple[str, ...] = ()
    if heads is None:
        heads = DECODER_HEADS
        if width != DecoderConfig().width:
            assumed = (f"its decoder is {width} wide and does not say its heads: {heads} as published",)
        if width % heads:
            raise UserError(
                f"{file} has a decoder {width} wide, which {heads} heads cannot share, and does not say how many it "
                'has; write "decoder_num_heads" under "model_args" into a config.json beside it'
            )
    config = DecoderConfig(
        width=width, depth=block_count(tensors, "decoder.blocks.", file), heads=heads, mlp_ratio=hidden / width
    )
    return config, assumed


def _axis_order(encoder: Mapping[str, Tensor], grid: tuple[int, int], prefix: int) -> AxisOrder | None:
    """Which axis the stored table encodes first; None when it is no fixed table."""
    stored = encoder.get("pos_embed")
    if stored is None or stored.is_meta or stored.shape[-1] % 4:
        return None
    orders: tuple[AxisOrder, ...] = ("column-first", "row-first")
    for order in orders:
        table = sincos_positions(stored.shape[-1], grid, prefix_tokens=prefix, axis_order=order)
        if table.shape == stored.shape and (table - stored.float()).abs().max() < POSITION_TOLERANCE:
            return order
    return None


def _required(tensors: Mapping[str, Tensor], name: str, axes: int, file: Path) -> Tensor:
    found = tensors.get(name)
    if found is None or found.ndim != axes or not found.numel():
        raise UserError(f"{file} lacks {name}, or has it in another form; check that it is a whole Vision Transformer")
    return found
