"""Operations on patches [B, L, P]: the normalisation of the target, and taking some of them."""

from typing import NamedTuple

from torch import Tensor

TARGET_EPS = 1e-6
# The largest share of values without data in a patch that is worth predicting.
MOST = 0.5


class PatchStatistics(NamedTuple):
    """Mean and standard deviation of every patch, each [B, L, 1]."""

    mean: Tensor
    std: Tensor


def patch_statistics(patches_BLP: Tensor) -> PatchStatistics:
    """Mean and standard deviation over the values of each patch.

    The standard deviation is the root of the unbiased variance plus 1e-6, as in the reference implementation.
    """
    mean = patches_BLP.mean(dim=-1, keepdim=True)
    variance = patches_BLP.var(dim=-1, keepdim=True, unbiased=True)
    return PatchStatistics(mean=mean, std=(variance + TARGET_EPS).sqrt())


def patches_with_data(patches_BLP: Tensor) -> Tensor:
    """Which patches hold data in at least half of their values, [B, L]; the others are NaN in most of them."""
    return patches_BLP.isnan().to(patches_BLP.dtype).mean(dim=-1) <= MOST


def normalise_patches(patches_BLP: Tensor) -> Tensor:
    """The normalised-pixel target (section 3, "Reconstruction target"): each patch with zero mean and unit variance."""
    mean, std = patch_statistics(patches_BLP)
    return (patches_BLP - mean) / std


def take_patches(patches_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """The patches at the indices `index_BK` of each image, in that order: [B, K, D]."""
    return patches_BLD.gather(1, index_BK.unsqueeze(-1).expand(-1, -1, patches_BLD.shape[-1]))
