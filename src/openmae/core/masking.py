"""Which patches are hidden. A mask is a value; its randomness is an argument."""

from math import ceil, floor, prod
from typing import NamedTuple

import torch
from torch import Tensor

from openmae.errors import UserError

RATIO_TOLERANCE = 1e-6


class Mask(NamedTuple):
    """The patches that the encoder sees and those that the decoder must predict, as indices into the patch grid.

    `kept` [B, K] and `dropped` [B, L-K] are int64; together each row is a permutation of 0 … L-1. `grid` is the number
    of patches along each axis, (rows, columns) for images, or None when only their number L is known.
    """

    kept: Tensor
    dropped: Tensor
    grid: tuple[int, ...] | None = None

    @property
    def patches(self) -> int:
        """L, the number of patches of one image."""
        return self.kept.shape[1] + self.dropped.shape[1]

    def as_grid(self) -> Tensor:
        """True where a patch is dropped: `[B, *grid]`, or [B, L] when the grid is unknown."""
        hidden_BL = torch.zeros(self.kept.shape[0], self.patches, dtype=torch.bool, device=self.kept.device)
        hidden_BL.scatter_(1, self.dropped, True)
        return hidden_BL if self.grid is None else hidden_BL.reshape(-1, *self.grid)

    def to(self, device: torch.device | str) -> "Mask":
        """The same mask on `device`."""
        return Mask(self.kept.to(device), self.dropped.to(device), self.grid)


def kept_count(patches: int, mask_ratio: float) -> int:
    """How many of `patches` stay visible: L * (1 - ratio), rounded down.

    A tolerance absorbs the float error of 1 - ratio, which alone would turn 20 into 19:

    >>> kept_count(196, 0.75), kept_count(196, 0.6), kept_count(100, 0.8)
    (49, 78, 20)

    Raises:
        UserError: for fewer than 2 patches, a ratio outside [0, 1), or one that leaves no patch visible or none hidden.
    """
    if patches < 2:
        raise UserError(f"masking needs at least 2 patches, not {patches}; use larger images or smaller patches")
    if not 0 <= mask_ratio < 1:
        raise UserError(f"the mask ratio must be at least 0 and below 1, not {mask_ratio}; the paper uses 0.75")
    kept = floor(patches * (1 - mask_ratio) + RATIO_TOLERANCE)
    if kept == 0 or kept == patches:
        missing = "visible" if kept == 0 else "hidden"
        raise UserError(
            f"a mask ratio of {mask_ratio} leaves none of {patches} patches {missing}; "
            f"use a ratio between {ceil(1000 / patches) / 1000} and {floor(1000 - 1000 / patches) / 1000}"
        )
    return kept


def mask_from_noise(noise_BL: Tensor, kept: int, grid: tuple[int, ...] | None = None) -> Mask:
    """Keep the `kept` patches with the smallest noise, in that order (section 3, "Simple implementation").

    `noise_BL` has a random number for each patch. A loader draws it from (seed, epoch, image index), so that a mask
    depends on nothing else.
    """
    order_BL = noise_BL.argsort(dim=1, stable=True)
    return Mask(kept=order_BL[:, :kept], dropped=order_BL[:, kept:], grid=grid)


def random_mask(
    *, batch: int, patches: int | tuple[int, ...], kept: int, generator: torch.Generator | None = None
) -> Mask:
    """A uniformly random mask that keeps `kept` patches of every image.

    `patches` is L, or the grid when the mask is to remember it. The same generator state gives the same mask.

    >>> mask = random_mask(batch=2, patches=(2, 3), kept=2, generator=torch.Generator().manual_seed(0))
    >>> mask.kept.shape, mask.dropped.shape, mask.as_grid().sum().item()
    (torch.Size([2, 2]), torch.Size([2, 4]), 8)

    Raises:
        UserError: when `kept` is not between 1 and L.
    """
    grid = patches if isinstance(patches, tuple) else None
    count = prod(patches) if isinstance(patches, tuple) else patches
    if not 0 < kept <= count:
        raise UserError(f"cannot keep {kept} of {count} patches; keep between 1 and {count}")
    device = generator.device if generator is not None else torch.device("cpu")
    return mask_from_noise(torch.rand(batch, count, generator=generator, device=device), kept, grid)
