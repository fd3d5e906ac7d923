"""Build networks from weights, and the same networks untrained."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer

from openmae.checkpoints.checkpoint import MODEL
from openmae.core.encoder import fix_positions, initialise
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.weights.reading import read_weights
from openmae.weights.strict import load_strictly, require_same
from openmae.weights.weights import Weights

USUAL_MASK_RATIO = 0.75


class LoadedAutoencoder(NamedTuple):
    """A pre-trained model in eval mode, its network, and the mask ratio of its training."""

    model: MaskedAutoencoder
    network: Network
    mask_ratio: float


def load_encoder(spec: str | Path) -> VisionTransformer:
    """The pre-trained or fine-tuned encoder: a plain timm VisionTransformer, unmasked, in eval mode, no classifier."""
    return encoder_from(read_weights(spec))


def encoder_from(weights: Weights) -> VisionTransformer:
    """Build the encoder of these weights and load it strictly; a classifier on top of it is left out."""
    network, tensors = weights.network, weights.encoder()
    options: dict[str, Any] = {}
    if network.decoder is None:
        options["global_pool"] = "avg" if "fc_norm.weight" in tensors else "token"
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    with torch.device("meta"):  # a file may describe a network that is too large for memory
        require_same(network.build_encoder(**options), tensors, weights.file)
    vit = network.build_encoder(**options)
    load_strictly(vit, tensors, weights.file)
    return vit.eval()


def untrained_encoder(network: Network, *, seed: int, mlp_bias_std: float = 0.0) -> VisionTransformer:
    """The encoder that a pre-training run with this seed starts with: fresh weights, fixed positions, eval mode."""
    torch.manual_seed(seed)
    if network.decoder is not None:
        return network.build_autoencoder(mlp_bias_std=mlp_bias_std).encoder.eval()
    vit = network.build_encoder()
    initialise(vit)
    fix_positions(vit, "column-first")
    return vit.eval()


def untrained_twin(weights: Weights, *, seed: int) -> VisionTransformer:
    """The network of these weights with fresh ones, initialised as its recipe does with this seed."""
    recipe = weights.recipe
    mlp_bias_std = recipe.mlp_bias_std if isinstance(recipe, PretrainRecipe) else 0.0
    return untrained_encoder(weights.network, seed=seed, mlp_bias_std=mlp_bias_std)


def load_autoencoder(spec: str | Path) -> LoadedAutoencoder:
    """The whole pre-training model.

    Raises:
        UserError: when the file holds no decoder; the message says which one does.
    """
    weights = read_weights(spec, with_decoder=True)
    network, recipe = weights.network, weights.recipe
    if network.decoder is None or not weights.has_decoder:
        raise UserError(
            f"{weights.file} holds an encoder without its decoder, which cannot reconstruct; give the run folder of "
            f"the pre-training, or its checkpoints/step-*/{MODEL}, which hold both"
        )
    with torch.device("meta"):  # a file may describe a network that is too large for memory
        require_same(network.build_encoder(), weights.encoder(), weights.file)
        require_same(network.build_autoencoder(), weights.tensors, weights.file)
    model = network.build_autoencoder()
    load_strictly(model, weights.tensors, weights.file)
    mask_ratio = recipe.mask_ratio if isinstance(recipe, PretrainRecipe) else USUAL_MASK_RATIO
    return LoadedAutoencoder(model.eval(), network, mask_ratio)
