"""The layout of Hugging Face: ViTMAE, ViT and ViTForImageClassification, as transformers 4 and 5 write them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from openmae.core.network import Interpolation
from openmae.errors import UserError
from openmae.weights.formats.architecture import Known, describe
from openmae.weights.formats.configuration import MADE_UP, names, numbers, positive, sides
from openmae.weights.formats.fair import below_prefix, flat
from openmae.weights.formats.keys import KeyTable, fuse_qkv, rename, renamed_back, split_qkv
from openmae.weights.formats.refusing import refuse_unknown
from openmae.weights.stored import Stored
from openmae.weights.weights import DECODER_PREFIX, Weights

NAME = "Hugging Face"

BLOCK = {
    "norm1": "layernorm_before",
    "attn.q": "attention.attention.query",
    "attn.k": "attention.attention.key",
    "attn.v": "attention.attention.value",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
BLOCK_IN_MEMORY = {
    # The names of transformers 5 in memory, and in a file that torch.save wrote.
    "norm1": "layernorm_before",
    "attn.q": "attention.q_proj",
    "attn.k": "attention.k_proj",
    "attn.v": "attention.v_proj",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
OUTSIDE_BLOCKS = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "head": "classifier",
    "decoder.embed": "decoder.decoder_embed",
    "decoder.mask_token": "decoder.mask_token",
    "decoder.pos_embed": "decoder.decoder_pos_embed",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.pred": "decoder.decoder_pred",
}


def _table(encoder_blocks: str, decoder_blocks: str, block: Mapping[str, str]) -> KeyTable:
    return KeyTable(
        {
            **OUTSIDE_BLOCKS,
            **{f"blocks.{{i}}.{ours}": f"{encoder_blocks}.{{i}}.{theirs}" for ours, theirs in block.items()},
            **{f"decoder.blocks.{{i}}.{ours}": f"{decoder_blocks}.{{i}}.{theirs}" for ours, theirs in block.items()},
        }
    )


WRITTEN_BY_4 = _table("vit.encoder.layer", "decoder.decoder_layers", BLOCK)
WRITTEN_BY_5 = _table("vit.encoder.layer", "decoder.decoder_encoder.layer", BLOCK)
IN_MEMORY_OF_5 = _table("vit.layers", "decoder.decoder_layers", BLOCK_IN_MEMORY)
TABLES = (WRITTEN_BY_4, WRITTEN_BY_5, IN_MEMORY_OF_5)

IGNORED = (
    "vit.pooler.",  # a layer on the class token that only ViTModel has, and no published protocol uses
    "vit.embeddings.mask_token",  # of ViTModel(use_mask_token=True): unused without hidden patches
)

RESAMPLE: Mapping[Interpolation, int] = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of the filters, which `resample` names."""


def recognises(stored: Stored) -> bool:
    """Whether the keys are those of Hugging Face's ViT."""
    keys = _with_vit(stored.tensors)
    return "vit.embeddings.patch_embeddings.projection.weight" in keys and any(
        _ours(key) is not None and ".attention." in key for key in keys
    )


def weights_from(stored: Stored, *, normalised: bool | None = None) -> Weights:
    """The weights in a file or folder of Hugging Face.

    Args:
        stored: what the file contains, with config.json and preprocessor_config.json where they are beside it.
        normalised: whether its decoder predicts pixels normalised per patch; None: as `norm_pix_loss` says.

    Raises:
        UserError: when it has other tensors, too few to know the network, or computes something else than timm's.
    """
    config = stored.config
    _require_usual(stored)
    named = {key: tensor for key, tensor in _with_vit(stored.tensors).items() if not key.startswith(IGNORED)}
    renamed = rename(named, _ours, stored.file)
    refuse_unknown(stored, renamed.unknown, layout=f"{NAME}'s ViT", ours=WRITTEN_BY_4)
    tensors = fuse_qkv(renamed.tensors, stored.file)
    decodes = any(name.startswith(DECODER_PREFIX) for name in tensors)
    mae = decodes or config.get("model_type") == "vit_mae"
    target = normalised if normalised is not None else config.get("norm_pix_loss")
    assumed = list(stored.assumed)
    if any(key.startswith("vit.pooler.") for key in _with_vit(stored.tensors)):
        assumed.append("its pooler is left out: OpenMAE and timm have none")
    if decodes and not isinstance(target, bool):
        target = False
        assumed.append("without a config.json it is taken for facebook/vit-mae, which predicts raw pixels")
    eps = config.get("layer_norm_eps", 1e-6)
    if eps != 1e-6:
        assumed.append(f"its config.json says layer_norm_eps {eps}; OpenMAE computes with 1e-6, as the reference did")
    pixels = stored.preprocessor
    network, more = describe(
        tensors,
        stored.file,
        Known(
            image_size=sides(config.get("image_size"), "image_size", stored.file),
            heads=positive(config, "num_attention_heads", stored.file),
            decoder_heads=positive(config, "decoder_num_attention_heads", stored.file),
            mean=numbers(pixels, "image_mean", stored.file),
            std=numbers(pixels, "image_std", stored.file),
            imagenet=mae,
            interpolation=_interpolation(pixels),
            eval_resize=None if mae else _eval_resize(pixels, stored),
            normalise_target=bool(target) if decodes else True,
        ),
    )
    return Weights(
        tensors=below_prefix(tensors) if decodes else tensors,
        network=network,
        file=stored.file,
        layout=NAME,
        assumed=(*assumed, *more),
        notes=_notes(config, tensors),
    )


def tensors_to(weights: Weights) -> dict[str, Tensor]:
    """The tensors as transformers 4 writes them: of ViTMAEForPreTraining, ViTForImageClassification or ViTModel.

    Raises:
        UserError: when Hugging Face's class has no place for a part of the network.
    """
    renamed = renamed_back(
        split_qkv(flat(weights)),
        WRITTEN_BY_4,
        layout=f"{NAME}'s ViT",
        remedy="leave these out, or use timm's layout",
    )
    if weights.has_decoder or weights.has_head:
        return renamed
    return {key.removeprefix("vit."): tensor for key, tensor in renamed.items()}


def config_of(weights: Weights) -> dict[str, Any]:
    """The content of `config.json` for the tensors of `tensors_to`."""
    network, encoder = weights.network, weights.encoder()
    architecture = network.architecture
    height, width = network.image_size
    config: dict[str, Any] = {
        "architectures": ["ViTForImageClassification" if weights.has_head else "ViTModel"],
        "model_type": "vit",
        "hidden_size": architecture.width,
        "num_hidden_layers": architecture.depth,
        "num_attention_heads": architecture.heads,
        "intermediate_size": encoder["blocks.0.mlp.fc1.weight"].shape[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "image_size": height if height == width else [height, width],
        "patch_size": architecture.patch_size,
        "num_channels": network.channels,
    }
    if weights.has_head:
        named = weights.classes or tuple(map(MADE_UP.format, range(len(encoder["head.weight"]))))
        config["id2label"] = {str(number): name for number, name in enumerate(named)}
        config["label2id"] = {name: number for number, name in enumerate(named)}
        if weights.notes.get("task") == "multilabel":
            config["problem_type"] = "multi_label_classification"
    if network.decoder is None:
        return config
    return {
        **config,
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "decoder_hidden_size": network.decoder.width,
        "decoder_num_hidden_layers": network.decoder.depth,
        "decoder_num_attention_heads": network.decoder.heads,
        "decoder_intermediate_size": weights.tensors["decoder.blocks.0.mlp.fc1.weight"].shape[0],
        "mask_ratio": 0.75,
        "norm_pix_loss": network.normalise_target,
    }


def _notes(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The meaning of the classifier's outputs, as the configuration states it."""
    if "head.weight" not in tensors:
        return {}
    found = names(config.get("id2label"), len(tensors["head.weight"]))
    if config.get("problem_type") == "regression" and len(tensors["head.weight"]) == 1:
        return {"task": "regression", "mean": 0.0, "std": 1.0}
    several = config.get("problem_type") == "multi_label_classification"
    task, key = ("multilabel", "labels") if several else ("classification", "classes")
    return {"task": task, **({} if found is None else {key: list(found)})}


def preprocessor_of(weights: Weights) -> dict[str, Any]:
    """The content of `preprocessor_config.json`; its class resizes without a crop."""
    network = weights.network
    height, width = network.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": RESAMPLE[network.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(network.mean),
        "image_std": list(network.std),
    }


def _ours(key: str) -> str | None:
    return next((ours for table in TABLES if (ours := table.ours(key)) is not None), None)


def _with_vit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All keys as a model with a head has them: ViTModel alone has no prefix."""
    bare = "embeddings.patch_embeddings.projection.weight" in tensors
    return {f"vit.{key}" if bare else key: tensor for key, tensor in tensors.items()}


def _require_usual(stored: Stored) -> None:
    """Refuse what the tensors do not show and timm's class computes otherwise."""
    activation = stored.config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise UserError(
            f"{stored.file} computes with the activation {str(activation)[:40]!r}, OpenMAE with gelu; give a network "
            "that uses gelu"
        )


def _interpolation(pixels: Mapping[str, Any]) -> Interpolation:
    return "bilinear" if pixels.get("resample") == RESAMPLE["bilinear"] else "bicubic"


def _eval_resize(pixels: Mapping[str, Any], stored: Stored) -> int | None:
    """The short side after resizing, before a crop where there is one."""
    size = pixels.get("size")
    if isinstance(size, Mapping):
        return positive(size, "shortest_edge", stored.file) or positive(size, "height", stored.file)
    return positive(pixels, "size", stored.file)
