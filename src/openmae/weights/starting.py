"""Starting the training of one network from the weights of another."""

from timm.models._manipulate import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer

from openmae.core.encoder import encoder_geometry
from openmae.core.geometry import Geometry
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.core.positions import resize_positions
from openmae.errors import UserError
from openmae.weights.strict import load_strictly
from openmae.weights.weights import DECODER_PREFIX, Weights


def start_from(vit: VisionTransformer, weights: Weights, *, norm_may_be_fresh: bool = False) -> None:
    """Load a pre-trained encoder into `vit`, in place; positions are resized to its image size, and the patch
    embedding is adapted from three channels to another number as timm does it.

    What may differ is listed here and nowhere else: the classifier and its norm start fresh, the encoder's final norm
    is left out where the classifier pools patches before its own norm (as the reference does), and so is attention
    pooling where `vit` pools otherwise.

    Args:
        vit: the encoder or classifier.
        weights: what it starts from.
        norm_may_be_fresh: weights that have no final norm, because they are of such a classifier, start an encoder
            whose final norm is fresh and will be trained.
    """
    tensors = {name: tensor for name, tensor in weights.encoder().items() if not name.startswith("head.")}
    own = vit.state_dict()
    if "norm.weight" not in own:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("norm.")}
    fresh_parts: tuple[str, ...] = ("head.", "fc_norm.")
    if norm_may_be_fresh and "norm.weight" not in tensors and "fc_norm.weight" in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc_norm.")}
        fresh_parts += ("norm.",)
    if vit.attn_pool is None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("attn_pool.")}
    trained = weights.network
    geometry = encoder_geometry(vit)
    old_grid = Geometry(size=trained.image_size, patch=geometry.patch).grid
    if vit.pos_embed is not None and "pos_embed" in tensors:
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        tensors["pos_embed"] = resize_positions(
            tensors["pos_embed"], old_grid=old_grid, new_grid=geometry.grid, prefix_tokens=prefix
        )
    channels = vit.patch_embed.proj.in_channels
    if channels != trained.channels:
        kernel = tensors["patch_embed.proj.weight"]
        try:
            tensors["patch_embed.proj.weight"] = adapt_input_conv(channels, kernel)
        except NotImplementedError as error:
            raise UserError(
                f"{weights.file} is for {trained.channels} channels and cannot start a model for {channels}; only "
                "weights for 3 channels can start one for another number"
            ) from error
    fresh = {name: tensor for name, tensor in own.items() if name.startswith(fresh_parts)}
    load_strictly(vit, {**fresh, **tensors}, weights.file)


def start_decoder_from(model: MaskedAutoencoder, network: Network, weights: Weights) -> str:
    """Load the decoder of a pre-training into `model`, in place, where it is the same network; positions stay those of
    the model where its grid is another one.

    Args:
        model: the autoencoder.
        network: of the model.
        weights: what the pre-training starts from.

    Returns:
        A sentence for the user: the decoder is taken along, or why it starts fresh.
    """
    reason = why_decoder_does_not_fit(network, weights)
    if reason:
        return f"the decoder starts fresh: {reason}"
    tensors = {
        name.removeprefix(DECODER_PREFIX): tensor
        for name, tensor in weights.tensors.items()
        if name.startswith(DECODER_PREFIX)
    }
    if tensors["pos_embed"].shape != model.decoder.pos_embed.shape:
        tensors["pos_embed"] = model.decoder.pos_embed.detach()
    load_strictly(model.decoder, tensors, weights.file)
    return f"the decoder of {weights.file} is taken along"


def why_decoder_does_not_fit(network: Network, weights: Weights) -> str:
    """The reason why the decoder of these weights cannot go on in this network; "" when it can."""
    trained = weights.network
    if not weights.has_decoder or trained.decoder is None:
        return f"{weights.file} has none"
    assert network.decoder is not None
    values = {
        "width": (trained.decoder.width, network.decoder.width),
        "depth": (trained.decoder.depth, network.decoder.depth),
        "heads": (trained.decoder.heads, network.decoder.heads),
        "channels": (trained.channels, network.channels),
        "normalise_target": (trained.normalise_target, network.normalise_target),
        "axis_order": (trained.axis_order, network.axis_order),
    }
    found = [f"{name} {old} there, {new} here" for name, (old, new) in values.items() if old != new]
    return f"that of {weights.file} is another one ({', '.join(found)})" if found else ""
