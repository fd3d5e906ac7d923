"""Fixed two-dimensional sine-cosine positions, and their resizing."""

from typing import Literal

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from openmae.errors import UserError

AxisOrder = Literal["column-first", "row-first"]
WAVELENGTH_BASE = 10_000.0


def sincos_positions(
    width: int, grid: tuple[int, int], *, prefix_tokens: int = 0, axis_order: AxisOrder = "column-first"
) -> Tensor:
    """The fixed position table [1, prefix + L, D]; rows of prefix tokens (CLS, registers) are zero.

    Half of the channels encode one axis, half the other, each as [sin, cos] over D/4 frequencies 10000^(-i / (D/4)).
    The reference implementation lets the first half encode the column, MMSelfSup the row; the two are a permutation of
    one another but weights trained with one do not fit the other.

    Raises:
        UserError: when `width` is not a multiple of 4.
    """
    if width % 4:
        raise UserError(f"sine-cosine positions need a width that 4 divides, not {width}; use {width // 4 * 4 + 4}")
    rows, columns = grid
    # float64 until the end, so that the table is the same on every device.
    frequencies = WAVELENGTH_BASE ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def encode(coordinate_L: Tensor) -> Tensor:
        angle = coordinate_L[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # [L, D/2]

    row_L = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column_L = torch.arange(columns, dtype=torch.float64).repeat(rows)
    axes = (column_L, row_L) if axis_order == "column-first" else (row_L, column_L)
    table_LD = torch.cat([encode(axis) for axis in axes], dim=1)
    return torch.cat([torch.zeros(prefix_tokens, width, dtype=torch.float64), table_LD]).float().unsqueeze(0)


def resize_positions(
    table: Tensor, *, old_grid: tuple[int, int], new_grid: tuple[int, int], prefix_tokens: int
) -> Tensor:
    """Resize a position table [1, prefix + L, D] to another grid, bicubic; prefix rows are untouched."""
    if old_grid == new_grid:
        return table
    resized: Tensor = resample_abs_pos_embed(
        table,
        new_size=list(new_grid),
        old_size=list(old_grid),
        num_prefix_tokens=prefix_tokens,
        interpolation="bicubic",
    )
    return resized
