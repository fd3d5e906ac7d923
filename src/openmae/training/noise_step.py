"""Forward and backward over noise, for the time and the memory that they take before there is a run."""

import torch
from lightning_fabric import Fabric

from openmae.core.masking import kept_count, random_mask
from openmae.core.model import MaskedAutoencoder
from openmae.recipes import PretrainRecipe
from openmae.weights.networks import network_of


def fresh_network(fabric: Fabric, recipe: PretrainRecipe) -> MaskedAutoencoder:
    """A recipe's network on the device, in the precision of its weights."""
    model = network_of(recipe).build_autoencoder().to(fabric.device)
    return model.double() if recipe.precision == "64-true" else model


def noise_step(fabric: Fabric, recipe: PretrainRecipe, model: MaskedAutoencoder, images: int) -> None:
    """Add the gradient of the loss on so many images of noise to the network's.

    Raises:
        torch.cuda.OutOfMemoryError: when a GPU has no memory for them.
    """
    kept = kept_count(model.geometry.patches, recipe.mask_ratio)
    dtype = model.decoder.embed.weight.dtype
    pixels = torch.rand(images, model.channels, *model.geometry.size, device=fabric.device, dtype=dtype)
    mask = random_mask(batch=images, patches=model.geometry.grid, kept=kept).to(fabric.device)
    with fabric.autocast():
        loss = model(pixels, mask).loss
    loss.backward()
