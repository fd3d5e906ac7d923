"""Images to patches and back, and the per-patch normalisation of the target."""

from typing import NamedTuple

from torch import Tensor

from openmae.errors import UserError

TARGET_EPS = 1e-6


class PatchStatistics(NamedTuple):
    """Mean and standard deviation of every patch, each [B, L, 1]."""

    mean: Tensor
    std: Tensor


def patch_grid(image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches in an image of `image_size` (height, width).

    Raises:
        UserError: when the patch size does not divide the image size.

    >>> patch_grid((224, 448), (16, 16))
    (14, 28)
    """
    (height, width), (patch_height, patch_width) = image_size, patch_size
    if height % patch_height or width % patch_width:
        fitting = [max(1, round(side / patch)) * patch for side, patch in zip(image_size, patch_size, strict=True)]
        raise UserError(
            f"an image of {height}x{width} is not a multiple of the patch size {patch_height}x{patch_width}; "
            f"use --image-size {fitting[0]}x{fitting[1]} or a patch size that divides {height} and {width}"
        )
    return height // patch_height, width // patch_width


def patchify(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] to [B, L, P]; patches row by row, the values of one patch in (row, column, channel) order."""
    batch, channels, height, width = images.shape
    patch_height, patch_width = patch_size
    rows, columns = patch_grid((height, width), patch_size)
    split = images.reshape(batch, channels, rows, patch_height, columns, patch_width)
    return split.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_height * patch_width * channels)


def unpatchify(patches_BLP: Tensor, patch_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`: [B, L, P] to [B, C, H, W], with `grid` = (rows, columns)."""
    batch, _, values = patches_BLP.shape
    (rows, columns), (patch_height, patch_width) = grid, patch_size
    channels = values // (patch_height * patch_width)
    split = patches_BLP.reshape(batch, rows, columns, patch_height, patch_width, channels)
    return split.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, rows * patch_height, columns * patch_width)


def patch_statistics(patches_BLP: Tensor) -> PatchStatistics:
    """Mean and standard deviation (unbiased variance plus 1e-6 under the root) over the values of each patch."""
    mean = patches_BLP.mean(dim=-1, keepdim=True)
    variance = patches_BLP.var(dim=-1, keepdim=True, unbiased=True)
    return PatchStatistics(mean=mean, std=(variance + TARGET_EPS).sqrt())


def normalise_patches(patches_BLP: Tensor) -> Tensor:
    """The normalised-pixel target (section 3, "Reconstruction target"): each patch with zero mean and unit variance."""
    mean, std = patch_statistics(patches_BLP)
    return (patches_BLP - mean) / std


def take_patches(patches_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """The patches at `index_BK`, [B, K, D]."""
    return patches_BLD.gather(1, index_BK.unsqueeze(-1).expand(-1, -1, patches_BLD.shape[-1]))
