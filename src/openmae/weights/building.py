"""Networks built from recipes and loaded from weights."""

from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from openmae.checkpoints.checkpoint import MODEL
from openmae.core.decoder import DecoderConfig
from openmae.core.encoder import create_encoder, fix_positions, initialise
from openmae.core.model import MaskedAutoencoder
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe, Recipe
from openmae.weights.reading import Weights, read_weights
from openmae.weights.strict import load_strictly, require_same


def load_encoder(spec: str | Path) -> VisionTransformer:
    """The pre-trained or fine-tuned encoder: a plain timm VisionTransformer, unmasked, in eval mode, no classifier."""
    return encoder_from(read_weights(spec))


def encoder_from(weights: Weights) -> VisionTransformer:
    """Build the encoder that `weights` describe and load it strictly; a classifier on top of it is left out."""
    tensors = weights.encoder()
    options = {}
    if not isinstance(weights.recipe, PretrainRecipe):
        options["global_pool"] = "avg" if "fc_norm.weight" in tensors else "token"
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    with torch.device("meta"):  # a file may describe a network that no memory holds
        require_same(build_encoder(weights.recipe, **options), tensors, weights.file)
    vit = build_encoder(weights.recipe, **options)
    load_strictly(vit, tensors, weights.file)
    return vit.eval()


def untrained_encoder(recipe: Recipe) -> VisionTransformer:
    """The same network as a pre-training run starts from: fresh weights by the recipe's seed, fixed positions."""
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, PretrainRecipe):
        return build_autoencoder(recipe).encoder.eval()
    vit = build_encoder(recipe)
    initialise(vit)
    fix_positions(vit, "column-first")
    return vit.eval()


def load_autoencoder(spec: str | Path) -> tuple[MaskedAutoencoder, PretrainRecipe]:
    """The whole pre-training model, in eval mode, with its recipe.

    Raises:
        UserError: when the file holds no decoder; the message says which one does.
    """
    weights = read_weights(spec, with_decoder=True)
    recipe = weights.recipe
    if not isinstance(recipe, PretrainRecipe) or not any(name.startswith("decoder.") for name in weights.tensors):
        raise UserError(
            f"{weights.file} holds an encoder without its decoder, which cannot reconstruct; give the run folder of "
            f"the pre-training, or its checkpoints/step-*/{MODEL}, which hold both"
        )
    with torch.device("meta"):  # a file may describe a network that no memory holds
        require_same(build_encoder(recipe), weights.encoder(), weights.file)
        require_same(build_autoencoder(recipe), weights.tensors, weights.file)
    model = build_autoencoder(recipe)
    load_strictly(model, weights.tensors, weights.file)
    return model.eval(), recipe


def build_encoder(recipe: Recipe, **options: Any) -> VisionTransformer:
    """The recipe's backbone, without weights; `options` go to timm."""
    return create_encoder(
        recipe.backbone,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        channels=recipe.channels,
        width=recipe.width,
        depth=recipe.depth,
        heads=recipe.heads,
        **options,
    )


def build_autoencoder(recipe: PretrainRecipe) -> MaskedAutoencoder:
    """The recipe's whole pre-training model, freshly initialised from torch's generator."""
    decoder = DecoderConfig(width=recipe.decoder_width, depth=recipe.decoder_depth, heads=recipe.decoder_heads)
    return MaskedAutoencoder(
        build_encoder(recipe),
        decoder=decoder,
        normalise_target=recipe.normalise_target,
        axis_order=recipe.axis_order,
        mlp_bias_std=recipe.mlp_bias_std,
    )
