"""How well images are reconstructed, with masks that are the same each time."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from openmae.core.geometry import Geometry
from openmae.core.masking import Mask, kept_count, mask_from_noise
from openmae.core.model import MaskedAutoencoder
from openmae.core.patches import normalise_patches
from openmae.data.randomness import Stream, random_stream


def fixed_masks(geometry: Geometry, indices: Sequence[int], mask_ratio: float, *, seed: int = 0) -> Mask:
    """A random mask for each image, which depends on the seed and the image's index alone: [B, …], B = len(indices).

    `openmae reconstruct` uses the same masks, the i-th for its i-th row.

    Raises:
        UserError: when the ratio leaves no patch visible, or none hidden.
    """
    noise = [
        random_stream(seed, Stream.MASK, index=int(index)).random(geometry.patches, dtype=np.float32)
        for index in indices
    ]
    noise_BL = torch.from_numpy(np.stack(noise) if noise else np.empty((0, geometry.patches), dtype=np.float32))
    return mask_from_noise(noise_BL, kept_count(geometry.patches, mask_ratio), geometry.grid)


@torch.inference_mode()
def patch_errors(model: MaskedAutoencoder, images: Tensor, mask: Mask) -> Tensor:
    """The mean squared error of every patch, on the scale of the loss: [B, L] in single precision.

    Visible patches have one too, but the loss does not train their prediction. Over the hidden patches of all images
    the mean is the loss.

    Args:
        model: its train/eval mode is the caller's choice.
        images: as the network receives them, normalised [B, C, H, W].
        mask: one for each image.
    """
    prediction_BLP = model(images, mask).prediction.float()
    target_BLP = model.geometry.patchify(images).float()
    if model.normalise_target:
        target_BLP = normalise_patches(target_BLP)
    errors: Tensor = (prediction_BLP - target_BLP).square().mean(dim=-1)
    return errors


def image_errors(errors_BL: Tensor, mask: Mask) -> Tensor:
    """The loss of each image alone, [B]: the mean of `patch_errors` over its hidden patches."""
    return errors_BL.gather(1, mask.dropped).mean(dim=1)
