"""The layout of OpenMMLab: MMSelfSup 0.x and 1.x, MMPretrain.

Its files are `{"state_dict": tensors, "meta": …}`; those of one's own runs add the optimizer and a message hub.
"""

import re
from typing import Any

from torch import Tensor

from openmae.weights.formats.architecture import Known, describe
from openmae.weights.formats.configuration import positive, sides
from openmae.weights.formats.fair import below_prefix, flat
from openmae.weights.formats.keys import KeyTable, rename, renamed_back
from openmae.weights.formats.refusing import refuse_unknown
from openmae.weights.stored import Stored
from openmae.weights.torch_files import attributes
from openmae.weights.weights import DECODER_PREFIX, Weights

NAME = "MMPretrain"

BLOCK = {
    "norm1": "ln1",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "norm2": "ln2",
    "mlp.fc1": "ffn.layers.0.0",
    "mlp.fc2": "ffn.layers.1",
}
ENCODER = {
    "cls_token": "backbone.cls_token",
    "pos_embed": "backbone.pos_embed",
    "patch_embed.proj": "backbone.patch_embed.projection",
    **{f"blocks.{{i}}.{ours}": f"backbone.layers.{{i}}.{theirs}" for ours, theirs in BLOCK.items()},
    "norm": "backbone.ln1",
}
DECODER = {
    "decoder.embed": "neck.decoder_embed",
    "decoder.mask_token": "neck.mask_token",
    "decoder.pos_embed": "neck.decoder_pos_embed",
    **{f"decoder.blocks.{{i}}.{ours}": f"neck.decoder_blocks.{{i}}.{theirs}" for ours, theirs in BLOCK.items()},
    "decoder.norm": "neck.ln1",
    "decoder.pred": "neck.decoder_pred",
}
# The classifier of a fine-tuned network, of a network that classifies by its class token, and of a linear probe.
FINETUNED = KeyTable({**ENCODER, **DECODER, "fc_norm": "backbone.ln2", "head": "head.fc"})
BY_CLASS_TOKEN = KeyTable({**ENCODER, "head": "head.layers.head"})
PROBE = KeyTable({**ENCODER, "head.0": "neck.bn", "head.1": "head.layers.head"})
# The same of MMSelfSup 0.x, which is read and never written.
FINETUNED_0 = KeyTable({**ENCODER, "fc_norm": "backbone.fc_norm", "head": "head.head"})
PROBE_0 = KeyTable({**ENCODER, "head.0": "head.bn", "head.1": "head.head"})
PROBE_FC = KeyTable({**ENCODER, "head.0": "neck.bn", "head.1": "head.fc"})

# Buffers of the input's mean and standard deviation, which MMSelfSup's first releases saved with the network.
IGNORED = ("data_preprocessor.mean", "data_preprocessor.std")

NUMBER = re.compile(r"\b(num_heads|decoder_num_heads) *= *(\d{1,5})\b")
TARGET = re.compile(r"\bnorm_pix(?:_loss)? *= *(True|False)\b")


def recognises(stored: Stored) -> bool:
    """Whether the keys are OpenMMLab's."""
    keys = _with_backbone(stored.tensors)
    return "backbone.patch_embed.projection.weight" in keys and "backbone.layers.0.attn.qkv.weight" in keys


def weights_from(stored: Stored, *, normalised: bool | None = None) -> Weights:
    """The weights in a file of OpenMMLab.

    Args:
        stored: what the file contains.
        normalised: whether its decoder predicts pixels normalised per patch; None: as its configuration says.

    Raises:
        UserError: when it has other tensors, or too few to know the network.
    """
    named = {key: tensor for key, tensor in _with_backbone(stored.tensors).items() if key not in IGNORED}
    table = _table(named)
    renamed = rename(named, table.ours, stored.file)
    refuse_unknown(stored, renamed.unknown, layout=NAME, ours=table)
    tensors = renamed.tensors
    decodes = any(name.startswith(DECODER_PREFIX) for name in tensors)
    says = _configuration(stored)
    assumed: tuple[str, ...] = ()
    target = says.get("norm_pix") if normalised is None else normalised
    if decodes and target is None:
        assumed = ("its meta does not say what it predicts: pixels normalised per patch, as OpenMMLab published",)
    network, more = describe(
        tensors,
        stored.file,
        Known(
            image_size=sides(says.get("img_size"), "img_size", stored.file),
            heads=positive(says, "num_heads", stored.file),
            decoder_heads=positive(says, "decoder_num_heads", stored.file),
            imagenet=True,
            normalise_target=target is not False,
            axis_order="row-first",
        ),
    )
    return Weights(
        tensors=below_prefix(tensors) if decodes else tensors,
        network=network,
        file=stored.file,
        layout=NAME,
        assumed=(*stored.assumed, *assumed, *more),
    )


def tensors_to(weights: Weights) -> dict[str, Tensor]:
    """The tensors under the names of MMPretrain.

    Raises:
        UserError: when the network has parts that theirs has not.
    """
    if "head.0.running_mean" in weights.tensors:
        table = PROBE
    elif weights.has_head and "fc_norm.weight" not in weights.tensors:
        table = BY_CLASS_TOKEN
    else:
        table = FINETUNED
    return renamed_back(flat(weights), table, layout=NAME, remedy="use timm's layout for this network")


def container_of(weights: Weights) -> dict[str, Any]:
    """The object that `torch.save` writes, with what the tensors do not show in the text of `meta`."""
    network = weights.network
    says = [f"num_heads={network.architecture.heads}"]
    if network.decoder is not None:
        says += [f"decoder_num_heads={network.decoder.heads}", f"norm_pix={network.normalise_target}"]
    return {"state_dict": tensors_to(weights), "meta": {"cfg": f"model = dict({', '.join(says)})"}}


def _with_backbone(tensors: Any) -> dict[str, Tensor]:
    """All keys as the whole model has them: OpenMMLab also publishes backbones alone, without the prefix."""
    bare = "patch_embed.projection.weight" in tensors
    return {f"backbone.{key}" if bare else key: tensor for key, tensor in tensors.items()}


def _table(named: dict[str, Tensor]) -> KeyTable:
    if "head.bn.running_mean" in named:
        return PROBE_0
    if "neck.bn.running_mean" in named:
        return PROBE if "head.layers.head.weight" in named else PROBE_FC
    if "head.layers.head.weight" in named:
        return BY_CLASS_TOKEN
    return FINETUNED_0 if "head.head.weight" in named else FINETUNED


def _configuration(stored: Stored) -> dict[str, Any]:
    """Heads, image size and target, as config.json and the text of the configuration in `meta` state them."""
    says = dict(attributes(stored.config.get("model_args")))
    text = attributes(stored.beside.get("meta")).get("cfg")
    if isinstance(text, str):
        found: dict[str, Any] = {name: int(value) for name, value in NUMBER.findall(text)}
        target = TARGET.search(text)
        if target is not None:
            found["norm_pix"] = target[1] == "True"
        says = {**found, **says}
    return says
