"""Starting the training of one network from the weights of another."""

from timm.models._manipulate import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer

from openmae.core.encoder import encoder_geometry
from openmae.core.geometry import Geometry
from openmae.core.positions import resize_positions
from openmae.errors import UserError
from openmae.weights.strict import load_strictly
from openmae.weights.weights import Weights


def start_from(vit: VisionTransformer, weights: Weights) -> None:
    """Load a pre-trained encoder into `vit`, in place; positions are resized to its image size, and the patch
    embedding is adapted from three channels to another number as timm does it.

    What may differ is listed here and nowhere else: the classifier and its norm start fresh, the encoder's final norm
    is left out where the classifier pools patches before its own norm (as the reference does), and so is attention
    pooling where `vit` pools otherwise.
    """
    tensors = {name: tensor for name, tensor in weights.encoder().items() if not name.startswith("head.")}
    own = vit.state_dict()
    if "norm.weight" not in own:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("norm.")}
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
    fresh = {name: tensor for name, tensor in own.items() if name.startswith(("head.", "fc_norm."))}
    load_strictly(vit, {**fresh, **tensors}, weights.file)
