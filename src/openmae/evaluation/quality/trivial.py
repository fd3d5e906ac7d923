"""Predictors that know nothing: how well the hidden patches are guessed without any learning.

A loss by itself says little, and beside these figures a lot: a network that is no better than the nearest visible patch
has not learned what the images look like. Every function here is pure: patches, images and masks in, predictions out.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from openmae.core.geometry import Geometry
from openmae.core.masking import Mask
from openmae.core.patches import normalise_patches, patch_statistics, take_patches

# More would change the error of photographs by less than 2 %.
ROUNDS = 8


class Masked(NamedTuple):
    """Images as the network receives them, and what is hidden of them.

    `images` [B, C, H, W], normalised by the data set's statistics; the `mask`; and for each patch [B, L] whether it is
    `counted`, because it holds data.
    """

    images: Tensor
    mask: Mask
    counted: Tensor


class TrivialErrors(NamedTuple):
    """Mean squared errors over the hidden patches, on the scale of the loss.

    Args:
        own_mean: each patch predicted as its own mean, which only the target itself knows. Normalised targets have the
            mean 0, so that this is the error of predicting 0: close to 1.
        nearest: the nearest visible patch.
        smooth: smooth interpolation from the visible patches.
        constant: the one patch that is the best prediction for all; None for targets that are not normalised.
    """

    own_mean: float
    nearest: float
    smooth: float
    constant: float | None


def own_means(patches_BLP: Tensor) -> Tensor:
    """Every patch as its own mean: [B, L, P]."""
    return patch_statistics(patches_BLP).mean.expand_as(patches_BLP)


def nearest_visible(patches_BLP: Tensor, mask: Mask) -> Tensor:
    """Every patch as the visible one that is nearest to it in the grid, [B, L, P]; a visible patch is itself.

    Of several that are equally near, the first in `mask.kept` is taken, whose order is random.
    """
    grid = mask.grid or (mask.patches,)
    axes = [torch.arange(side, device=mask.kept.device) for side in grid]
    places_LA = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    distances_LL = (places_LA[:, None] - places_LA[None]).square().sum(dim=-1)
    nearest_BL = torch.stack([kept[distances_LL[:, kept].argmin(dim=1)] for kept in mask.kept])
    return take_patches(patches_BLP, nearest_BL)


def smooth_interpolation(images: Tensor, visible: Tensor) -> Tensor:
    """The hidden pixels filled smoothly from the visible ones, [B, C, H, W].

    Harmonic interpolation: each hidden pixel becomes the mean of its four neighbours (Laplace's equation, as in Chan
    and Shen, Mathematical Models for Local Nontexture Inpaintings, SIAM 2002, section 3). It is solved nearly, from
    coarse to fine: hidden pixels begin with those of the image at half the size, in which each pixel is the mean of the
    visible ones that it covers, and are averaged a few times.

    Args:
        images: [B, C, H, W].
        visible: [B, 1, H, W] of truth values, with at least one that is true in each image.
    """
    height, width = images.shape[-2:]
    if height == width == 1:
        return images
    weights = visible.to(images)
    kernel = (min(2, height), min(2, width))
    covered, total = (F.avg_pool2d(part, kernel, ceil_mode=True) for part in (weights, images * weights))
    half = total / covered.clamp(min=torch.finfo(images.dtype).tiny)
    filled = smooth_interpolation(half, covered > 0)
    larger = F.interpolate(filled, size=(height, width), mode="bilinear", align_corners=False)
    found = torch.where(visible, images, larger)
    for _ in range(ROUNDS):
        around = F.pad(found, (1, 1, 1, 1), mode="replicate")
        rows, columns = around[..., 1:-1], around[..., 1:-1, :]
        mean = (rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]) / 4
        found = torch.where(visible, images, mean)
    return found


def visible_pixels(geometry: Geometry, mask: Mask) -> Tensor:
    """Which pixels of each image are visible, [B, 1, H, W]."""
    hidden_BL = Mask(mask.kept, mask.dropped).as_grid()
    values_BLP = (~hidden_BL).unsqueeze(-1).expand(-1, -1, geometry.patch_values(1))
    return geometry.unpatchify(values_BLP)


def trivial_errors(geometry: Geometry, parts: Iterable[Masked], *, normalised: bool) -> TrivialErrors:
    """The errors of all predictors over the hidden patches of all images.

    Where targets are normalised per patch, so are the predictions. A guess that is only weakly related to its target
    is then the better the closer to 0 it is, so the predictions of `nearest` and `smooth` are multiplied by the one
    factor that is best for all patches together (least squares). They are no worse than `own_mean` for that reason.

    Args:
        geometry: of the images.
        parts: the images, a batch at a time.
        normalised: whether the targets are normalised per patch.
    """
    sums = {name: _Sums() for name in ("own_mean", "nearest", "smooth")}
    values, patches = 0, 0
    total_P: Tensor | float = 0.0
    for images, mask, counted in parts:
        patches_BLP = geometry.patchify(images).double()
        interpolated = smooth_interpolation(images, visible_pixels(geometry, mask))
        predictions = {
            "own_mean": own_means(patches_BLP),
            "nearest": nearest_visible(patches_BLP, mask),
            "smooth": geometry.patchify(interpolated).double(),
        }
        chosen = counted.gather(1, mask.dropped)
        target_NP = _scale(take_patches(patches_BLP, mask.dropped), normalised)[chosen]
        values, patches = values + target_NP.numel(), patches + len(target_NP)
        total_P = total_P + target_NP.sum(dim=0)
        for name, prediction_BLP in predictions.items():
            sums[name].add(target_NP, _scale(take_patches(prediction_BLP, mask.dropped), normalised)[chosen])
    if not values:
        return TrivialErrors(0.0, 0.0, 0.0, 0.0 if normalised else None)
    errors = {name: sums[name].error(scaled=normalised) / values for name in sums}
    squares = float(torch.as_tensor(total_P).square().sum()) / patches
    return TrivialErrors(**errors, constant=(sums["own_mean"].targets - squares) / values if normalised else None)


class _Sums:
    """Sums of the squares of targets and predictions, and of their products."""

    def __init__(self) -> None:
        self.targets = self.products = self.predictions = 0.0

    def add(self, target: Tensor, prediction: Tensor) -> None:
        self.targets += float(target.square().sum())
        self.products += float((target * prediction).sum())
        self.predictions += float(prediction.square().sum())

    def error(self, *, scaled: bool) -> float:
        """The sum of the squared errors, of predictions as they are or multiplied by the best factor."""
        if not scaled:
            return max(0.0, self.targets - 2 * self.products + self.predictions)
        return self.targets - (self.products**2 / self.predictions if self.predictions else 0.0)


def _scale(patches_BLP: Tensor, normalised: bool) -> Tensor:
    return normalise_patches(patches_BLP) if normalised else patches_BLP
