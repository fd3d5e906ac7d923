"""Predicted patches as pixels, and pixels of any kind as a screen can show them."""

import torch
from torch import Tensor

from openmae.core.geometry import Geometry
from openmae.core.network import Network
from openmae.core.patches import patch_statistics
from openmae.data.decoding import LARGEST

MASKED_GREY = 128
STRETCH = (0.02, 0.98)


def pixels_of(
    prediction_BLP: Tensor, images: Tensor, geometry: Geometry, network: Network, kind: torch.dtype
) -> Tensor:
    """Predicted patches as pixels [B, C, H, W], on the scale of the files.

    Patches that are predicted normalised get the mean and the contrast of the originals, which the network never knew.

    Args:
        prediction_BLP: for every patch.
        images: the originals, as the network receives them [B, C, H, W].
        geometry: of the images.
        network: the statistics of their pixels, and whether targets are normalised.
        kind: the type of the pixels in the files.
    """
    if network.normalise_target:
        mean, std = patch_statistics(geometry.patchify(images))
        prediction_BLP = prediction_BLP * std + mean
    decoded = geometry.unpatchify(prediction_BLP)
    shape = (1, -1, 1, 1)
    largest = LARGEST[str(kind).removeprefix("torch.")]
    return largest * (decoded * torch.tensor(network.std).view(shape) + torch.tensor(network.mean).view(shape))


def visible_bands(pixels: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Images and predictions as a screen can show them, each [B, 1 or 3, H, W] in 0 … 255.

    8-bit images of one or three channels stay as they are. Of other images the first three bands are shown, or the
    first one of two. Each band is stretched between percentiles of the original, and its prediction by the same ones.
    """
    if is_visible(pixels):
        return pixels.float(), predicted
    shown = 3 if pixels.shape[1] >= 3 else 1
    original, predicted = pixels[:, :shown].float(), predicted[:, :shown]
    limits = torch.nanquantile(original.flatten(2), torch.tensor(STRETCH), dim=2)  # [2, B, shown]
    low, high = limits.unsqueeze(-1).unsqueeze(-1)
    scale = 255 / (high - low).clamp(min=1e-12)
    # Pixels without data are black.
    return ((original - low) * scale).nan_to_num(0), ((predicted - low) * scale).nan_to_num(0)


def is_visible(pixels: Tensor) -> bool:
    """Whether a screen can show them as they are."""
    return pixels.dtype == torch.uint8 and pixels.shape[1] in (1, 3)
