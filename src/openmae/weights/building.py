"""Networks built from weights, or freshly initialised beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from openmae.checkpoints.checkpoint import MODEL
from openmae.core.encoder import fix_positions, initialise
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.weights.formats.timm import input_of
from openmae.weights.reading import read_weights
from openmae.weights.strict import load_strictly, require_same
from openmae.weights.weights import HEAD_PREFIX, Weights

USUAL_MASK_RATIO = 0.75


class LoadedAutoencoder(NamedTuple):
    """A pre-trained model in eval mode, its network, and the share of the patches that was hidden from it."""

    model: MaskedAutoencoder
    network: Network
    mask_ratio: float


def load_encoder(spec: str | Path) -> VisionTransformer:
    """The pre-trained or fine-tuned encoder: a plain timm VisionTransformer, unmasked, in eval mode, no classifier.

    Its `pretrained_cfg` says how it wants its images. For 8-bit grey and colour,
    `timm.data.create_transform(**timm.data.resolve_model_data_config(vit))` prepares them as `openmae embed` does.
    """
    return encoder_from(read_weights(spec))


def encoder_from(weights: Weights) -> VisionTransformer:
    """Build the encoder of these weights and load it strictly; a classifier on top of it is left out."""
    network = weights.network
    tensors = {name: tensor for name, tensor in weights.encoder().items() if not name.startswith(HEAD_PREFIX)}
    options = _pooling(tensors) if network.decoder is None else {}
    with torch.device("meta"):  # a file may describe a network that no memory holds
        require_same(network.build_encoder(**options), tensors, weights.file)
    vit = network.build_encoder(**options)
    load_strictly(vit, tensors, weights.file)
    # Not those of timm's own weights for this architecture, nor the address of them.
    vit.pretrained_cfg = vit.default_cfg = {"architecture": network.backbone, "num_classes": 0, **input_of(network)}
    return vit.eval()


def classifier_from(weights: Weights) -> VisionTransformer:
    """Build a fine-tuned network, from images to the outputs of its head, and load it strictly."""
    tensors = weights.encoder()
    options = {**_pooling(tensors), "num_classes": len(tensors[f"{HEAD_PREFIX}weight"])}
    with torch.device("meta"):  # a file may describe a network that no memory holds
        require_same(weights.network.build_encoder(**options), tensors, weights.file)
    vit = weights.network.build_encoder(**options)
    load_strictly(vit, tensors, weights.file)
    return vit.eval()


def _pooling(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The pooling that timm's class needs to have just these tensors; its own where they do not decide it."""
    if "fc_norm.weight" in tensors:
        return {"global_pool": "avg"}
    return {"global_pool": "token"} if "cls_token" in tensors else {}


def untrained_encoder(network: Network, *, seed: int, mlp_bias_std: float = 0.0) -> VisionTransformer:
    """The encoder as a pre-training run with this seed starts from it: fresh weights, fixed positions, eval mode."""
    torch.manual_seed(seed)
    if network.decoder is not None:
        return network.build_autoencoder(mlp_bias_std=mlp_bias_std).encoder.eval()
    vit = network.build_encoder()
    initialise(vit)
    fix_positions(vit, "column-first")
    return vit.eval()


def untrained_twin(weights: Weights, *, seed: int) -> VisionTransformer:
    """The network of these weights before it was trained, as its own recipe would have begun with this seed."""
    recipe = weights.recipe
    mlp_bias_std = recipe.mlp_bias_std if isinstance(recipe, PretrainRecipe) else 0.0
    return untrained_encoder(weights.network, seed=seed, mlp_bias_std=mlp_bias_std)


def load_autoencoder(spec: str | Path, *, normalised: bool | None = None) -> LoadedAutoencoder:
    """The whole pre-training model.

    Args:
        spec: what `read_weights` reads.
        normalised: whether it predicts pixels normalised per patch, for a foreign file that does not say it.

    Raises:
        UserError: when the file holds no decoder; the message says which one does.
    """
    return autoencoder_from(read_weights(spec, with_decoder=True, normalised=normalised))


def autoencoder_from(weights: Weights) -> LoadedAutoencoder:
    """Build the whole pre-training model of these weights and load it strictly.

    Raises:
        UserError: when they have no decoder; the message says which file does.
    """
    network, recipe = weights.network, weights.recipe
    if network.decoder is None or not weights.has_decoder:
        remedy = (
            f"give the run folder of the pre-training, or its checkpoints/step-*/{MODEL}, which hold both"
            if recipe is not None
            else "published with one are fair's files called full and visualize, MMPretrain's of pre-training, and "
            "facebook/vit-mae of Hugging Face"
        )
        raise UserError(f"{weights.file} holds an encoder without its decoder, which cannot reconstruct; {remedy}")
    with torch.device("meta"):  # a file may describe a network that no memory holds
        require_same(network.build_encoder(), weights.encoder(), weights.file)
        require_same(network.build_autoencoder(), weights.tensors, weights.file)
    model = network.build_autoencoder()
    load_strictly(model, weights.tensors, weights.file)
    mask_ratio = recipe.mask_ratio if isinstance(recipe, PretrainRecipe) else USUAL_MASK_RATIO
    return LoadedAutoencoder(model.eval(), network, mask_ratio)
