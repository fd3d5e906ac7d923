"""The layout of the reference, facebookresearch/mae: timm's names, with the decoder beside the encoder.

Its published files are `{"model": tensors}`; files of one's own runs add optimizer, epoch, scaler and args.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from openmae.weights.formats.architecture import Known, describe
from openmae.weights.formats.configuration import positive, sides
from openmae.weights.formats.keys import BLOCK, ENCODER, KeyTable, rename, renamed_back
from openmae.weights.formats.refusing import refuse_unknown
from openmae.weights.stored import Stored
from openmae.weights.torch_files import attributes
from openmae.weights.weights import DECODER_PREFIX, ENCODER_PREFIX, Weights

NAME = "facebookresearch/mae"

TABLE = KeyTable(
    {
        **{name: name for name in ENCODER},
        "decoder.embed": "decoder_embed",
        "decoder.mask_token": "mask_token",
        "decoder.pos_embed": "decoder_pos_embed",
        **{f"decoder.blocks.{{i}}.{name}": f"decoder_blocks.{{i}}.{name}" for name in BLOCK},
        "decoder.norm": "decoder_norm",
        "decoder.pred": "decoder_pred",
        # Fine-tuned: the mean of the patches, its own norm, one linear layer.
        "fc_norm": "fc_norm",
        "head": "head",
        # Linear probe: batch normalisation, then one linear layer.
        "head.0": "head.0",
        "head.1": "head.1",
    }
)


def recognises(stored: Stored) -> bool:
    """Whether the keys are the reference's. Its encoder alone has the keys of any plain ViT of timm."""
    keys = stored.tensors
    if "patch_embed.proj.weight" not in keys or "blocks.0.attn.qkv.weight" not in keys:
        return False
    if any(name.startswith("decoder_") for name in keys) or "head.0.running_mean" in keys:
        return True
    named = "architecture" in stored.config or "arch" in stored.beside
    published = stored.container == "model" and "head.weight" not in keys and "norm.weight" in keys
    return not named and ("fc_norm.weight" in keys or published)


def weights_from(stored: Stored, *, normalised: bool | None = None) -> Weights:
    """The weights in a file of the reference.

    Args:
        stored: what the file contains.
        normalised: whether its decoder predicts pixels normalised per patch; None: as its args or its name say.

    Raises:
        UserError: when it has other tensors, or too few to know the network.
    """
    renamed = rename(stored.tensors, TABLE.ours, stored.file)
    refuse_unknown(stored, renamed.unknown, layout=NAME, ours=TABLE)
    tensors = renamed.tensors
    decodes = any(name.startswith(DECODER_PREFIX) for name in tensors)
    target, assumed = _target(stored, normalised) if decodes else (True, ())
    options = attributes(stored.config.get("model_args"))
    network, more = describe(
        tensors,
        stored.file,
        Known(
            image_size=sides(options.get("img_size"), "img_size", stored.file),
            heads=positive(options, "num_heads", stored.file),
            decoder_heads=positive(options, "decoder_num_heads", stored.file),
            imagenet=True,
            normalise_target=target,
        ),
    )
    if decodes:
        tensors = below_prefix(tensors)
    return Weights(
        tensors=tensors,
        network=network,
        file=stored.file,
        layout=NAME,
        assumed=(*stored.assumed, *assumed, *more),
    )


def tensors_to(weights: Weights) -> dict[str, Tensor]:
    """The tensors under the reference's names.

    Raises:
        UserError: when the network has parts that the reference has not.
    """
    return renamed_back(flat(weights), TABLE, layout=NAME, remedy="use timm's layout for this network")


def container_of(weights: Weights) -> dict[str, Any]:
    """The object that `torch.save` writes: as the published files, so that the reference's loaders take it."""
    return {"model": tensors_to(weights)}


def below_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Encoder tensors moved below `encoder.`, as an autoencoder has them."""
    return {
        name if name.startswith(DECODER_PREFIX) else ENCODER_PREFIX + name: tensor for name, tensor in tensors.items()
    }


def flat(weights: Weights) -> dict[str, Tensor]:
    """The inverse: encoder tensors without their prefix, beside `decoder.` and `head.`."""
    return {name.removeprefix(ENCODER_PREFIX): tensor for name, tensor in weights.tensors.items()}


def _target(stored: Stored, chosen: bool | None) -> tuple[bool, tuple[str, ...]]:
    """Whether the decoder predicts normalised pixels: the tensors do not show it."""
    if chosen is not None:
        return chosen, ()
    option = attributes(stored.beside.get("args")).get("norm_pix_loss")
    if isinstance(option, bool):
        return option, ()
    name = stored.file.name.lower()
    if "visualize" in name:
        return False, ("by its name, it predicts raw pixels",)
    if "full" in name:
        return True, ("by its name, it predicts pixels normalised per patch",)
    note = (
        "neither its name nor its args say what it predicts: pixels normalised per patch; put 'visualize' into its "
        "name if they are raw"
    )
    return True, (note,)
