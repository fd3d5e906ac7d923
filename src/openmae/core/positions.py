"""Fixed sine-cosine positions for grids of one, two and three axes, and the resizing of position tables."""

from math import prod
from typing import Literal

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F

from openmae.errors import UserError

AxisOrder = Literal["column-first", "row-first"]
WAVELENGTH_BASE = 10_000.0


def sincos_positions(
    width: int, grid: tuple[int, ...], *, prefix_tokens: int = 0, axis_order: AxisOrder = "column-first"
) -> Tensor:
    """The fixed position table [1, prefix + L, D]; rows of prefix tokens (CLS, registers) are zero (appendix A.1).

    Each axis has its own channels. An axis with 2n channels is encoded as [sin, cos] of its coordinate times the n
    frequencies 10000^(-i / n). One axis has all D channels, each of two has D/2 (so n = D/4). Three axes share the D/2
    pairs of sine and cosine as evenly as possible: D/3 channels each where 6 divides D (ViT-T 192, ViT-S 384, ViT-B
    768). Otherwise the axes that come first have one pair more: ViT-L's 1024 is 342 + 342 + 340, ViT-H's 1280 is
    428 + 426 + 426.

    "column-first" gives the first channels to the innermost axis, as the reference implementation does, and
    "row-first" to the outermost, as MMSelfSup does. Weights trained with one order do not fit the other.

    Raises:
        UserError: when `width` cannot be divided so: one axis needs a multiple of 2, two axes need a multiple of 4, and
            three axes an even number of at least 6.
    """
    widths = _axis_widths(width, len(grid))
    innermost_first = list(reversed(range(len(grid))))
    order = innermost_first if axis_order == "column-first" else innermost_first[::-1]
    parts = []
    for axis, channels in zip(order, widths, strict=True):
        before, after = prod(grid[:axis]), prod(grid[axis + 1 :])
        # float64 until the end, so that the table is the same on every device.
        coordinate_L = torch.arange(grid[axis], dtype=torch.float64).repeat_interleave(after).repeat(before)
        parts.append(_encode_coordinate(coordinate_L, channels))
    table_LD = torch.cat(parts, dim=1)
    return torch.cat([torch.zeros(prefix_tokens, width, dtype=torch.float64), table_LD]).float().unsqueeze(0)


def _axis_widths(width: int, axes: int) -> list[int]:
    """The number of channels of each axis, in the order in which the axes are encoded."""
    # Two axes refuse a rest, as the reference does. Three cannot: 6 divides neither 1024 nor 1280.
    divisor = 2 * axes if axes < 3 else 2
    if width % divisor or width < 2 * axes:
        fitting = max(2 * axes, width // divisor * divisor + divisor)
        needed = f"a width that {divisor} divides" if axes < 3 else f"an even width of at least {2 * axes}"
        raise UserError(f"sine-cosine positions need {needed}, not {width}; use {fitting}")
    pairs, rest = divmod(width // 2, axes)
    return [2 * (pairs + (place < rest)) for place in range(axes)]


def _encode_coordinate(coordinate_L: Tensor, channels: int) -> Tensor:
    count = channels // 2
    frequencies = WAVELENGTH_BASE ** -(torch.arange(count, dtype=torch.float64) / count)
    angle = coordinate_L[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # [L, channels]


def resize_positions(
    table: Tensor, *, old_grid: tuple[int, ...], new_grid: tuple[int, ...], prefix_tokens: int
) -> Tensor:
    """Resize a position table [1, prefix + L, D] to another grid of as many axes; prefix rows are untouched.

    The interpolation is cubic along every axis, with antialiasing: timm's function for two axes.

    Raises:
        UserError: when the grids have different numbers of axes.
    """
    if old_grid == new_grid:
        return table
    if len(old_grid) != len(new_grid):
        raise UserError(
            f"positions of a grid with {len(old_grid)} axes cannot be resized to one with {len(new_grid)}; use a grid "
            "with as many axes"
        )
    if len(old_grid) != 2:
        return _resize_axis_by_axis(table, old_grid, new_grid, prefix_tokens)
    resized: Tensor = resample_abs_pos_embed(
        table,
        new_size=list(new_grid),
        old_size=list(old_grid),
        num_prefix_tokens=prefix_tokens,
        interpolation="bicubic",
    )
    return resized


def _resize_axis_by_axis(
    table: Tensor, old_grid: tuple[int, ...], new_grid: tuple[int, ...], prefix_tokens: int
) -> Tensor:
    """Resize along one axis after another: cubic interpolation is separable."""
    prefix, patches = table[:, :prefix_tokens], table[:, prefix_tokens:].float()
    width = table.shape[-1]
    for axis, (old, new) in enumerate(zip(old_grid, new_grid, strict=True)):
        before, after = prod(new_grid[:axis]), prod(old_grid[axis + 1 :]) * width
        # Torch resizes pictures: this axis is their width, and their height stays as it is. The other way round, torch
        # 2.14 gives wrong values for pictures that are one pixel wide.
        pictures = patches.reshape(before, 1, old, after).transpose(2, 3).contiguous()
        resized = F.interpolate(pictures, size=(after, new), mode="bicubic", antialias=True)
        patches = resized.transpose(2, 3).reshape(before, new, after)
    return torch.cat([prefix, patches.reshape(1, -1, width).to(table.dtype)], dim=1)
