"""A recipe that takes its network from weights: the fields that follow from them."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from openmae.core.geometry import size_text
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.recipes.adapting import adapting_recipe
from openmae.recipes.recipe import AS_WEIGHTS
from openmae.recipes.values import ImageSize
from openmae.reporter import say
from openmae.weights.networks import network_of
from openmae.weights.starting import why_decoder_does_not_fit
from openmae.weights.weights import Weights

SHARE_OF_RATE = 1 / 4
"""The peak rate of an adaptation, as a share of the rate that trained the weights from nothing."""
SHARE_FROZEN = 1 / 10
"""The share of a run in which a fresh decoder learns alone."""
USUAL_DECODER_WIDTH = 512
TRAINED_ALIKE = (
    "mask_ratio",
    "mlp_bias_std",
    "crop_scale",
    "flip",
    "optimizer",
    "betas",
    "momentum",
    "weight_decay",
    "decay_tokens",
)
"""Fields that were chosen for the network and the kind of images, and stay as they were."""


def as_weights(recipe: PretrainRecipe, weights: Weights | None, given: Collection[str] = ()) -> PretrainRecipe:
    """`recipe` with the network of these weights, where it leaves its network to them; any other as it is.

    A field that the user gave stays, and so does one that differs from the recipe `adapt`. The pixels are
    another matter: `adopt_pixels` takes their type and statistics from the weights.

    Args:
        recipe: with the backbone `AS_WEIGHTS`, or any other.
        weights: those that it names.
        given: the names of the fields that the user gave.

    Raises:
        UserError: when there are no weights to take it from.
    """
    if recipe.backbone != AS_WEIGHTS:
        return recipe
    if weights is None:
        raise UserError(
            f"{recipe.name} goes on from weights and was given none; add --weights with a run folder, a file, "
            "zoo:NAME or hf://owner/name"
        )
    as_named = adapting_recipe()
    changed = {
        one.name for one in dataclasses.fields(recipe) if getattr(recipe, one.name) != getattr(as_named, one.name)
    }
    kept = changed | set(given) - {"backbone"}
    values = {**_of_network(weights), **_of_training(recipe, weights)}
    adapted = dataclasses.replace(recipe, **{name: value for name, value in values.items() if name not in kept})
    say(_understood(adapted, weights, rate_is_given="base_lr" in kept))
    return adapted


def freeze_while_decoder_is_fresh(recipe: PretrainRecipe, weights: Weights | None) -> PretrainRecipe:
    """`recipe` with a number of `encoder_frozen_epochs`, where it leaves that to the weights.

    The gradients that come through a fresh decoder are noise at first, and would spoil a trained encoder.
    """
    if recipe.encoder_frozen_epochs != "auto":
        return recipe
    if weights is None or not why_decoder_does_not_fit(network_of(recipe), weights):
        return dataclasses.replace(recipe, encoder_frozen_epochs=0.0)
    epochs = float(f"{SHARE_FROZEN * recipe.epochs:.4g}")
    say(
        f"the encoder stays as it is for the first {epochs:g} of {recipe.epochs} epochs, while the fresh decoder "
        "learns; --encoder-frozen-epochs sets another number"
    )
    return dataclasses.replace(recipe, encoder_frozen_epochs=epochs)


def _understood(recipe: PretrainRecipe, weights: Weights, *, rate_is_given: bool) -> str:
    """A sentence for the user about the fields that follow from the weights."""
    known = isinstance(weights.recipe, PretrainRecipe) and not _was_adapted(weights) and not rate_is_given
    rate = f"; {recipe.optimizer} at a quarter of the rate that they were trained with" if known else ""
    return (
        f"the network is that of {weights.file}: {recipe.backbone} at {size_text(recipe.image_size)} pixels, channels: "
        f"{recipe.channels}, decoder: {recipe.decoder_depth} x {recipe.decoder_width}{rate}"
    )


def _of_network(weights: Weights) -> Mapping[str, Any]:
    """The fields that describe the network of these weights."""
    network = weights.network
    values: dict[str, Any] = {
        "backbone": network.backbone,
        "image_size": ImageSize(*network.image_size),
        "patch_size": network.patch_size,
        "channels": network.channels,
        "width": network.width,
        "depth": network.depth,
        "heads": network.heads,
        "interpolation": network.interpolation,
        "decode": "exact" if network.exact_decoding else "fast",
        "normalise_target": network.normalise_target,
        "axis_order": network.axis_order,
    }
    return {**values, **_of_decoder(network)}


def _of_decoder(network: Network) -> Mapping[str, int]:
    """The decoder of this network. Where it is not known: the published one, but no wider than the encoder."""
    decoder = network.decoder
    if decoder is not None:
        return {"decoder_width": decoder.width, "decoder_depth": decoder.depth, "decoder_heads": decoder.heads}
    encoder = network.architecture
    if encoder.width >= USUAL_DECODER_WIDTH or encoder.heads is None:
        return {}
    return {"decoder_width": encoder.width, "decoder_heads": encoder.heads}


def _of_training(recipe: PretrainRecipe, weights: Weights) -> Mapping[str, Any]:
    """The fields that follow from the pre-training of these weights, where it is known."""
    before = weights.recipe
    if not isinstance(before, PretrainRecipe):
        return {}
    batch = min(recipe.batch_size, before.batch_size)
    share = 1 if _was_adapted(weights) else SHARE_OF_RATE
    peak = share * before.lr * math.sqrt(batch / before.batch_size)
    alike = {name: getattr(before, name) for name in TRAINED_ALIKE}
    return {**alike, "batch_size": batch, "base_lr": float(f"{peak * 256 / batch:.4g}")}


def _was_adapted(weights: Weights) -> bool:
    """Whether they come from an adaptation, whose rate is a share already."""
    return weights.recipe is not None and weights.recipe.name == "adapt"
