"""The layout of timm, which is also ours for an encoder; DINO's and DeiT's own files have it too.

A plain network is known by its shapes. For any other (DINOv2, CLIP, SigLIP, registers, mean pooling) timm's
`config.json` names the architecture, because the tensors do not show everything that is computed.
"""

from dataclasses import replace
from math import floor
from typing import Any

from torch import Tensor

from openmae.core.network import Interpolation, Network
from openmae.errors import UserError
from openmae.weights.formats import fair
from openmae.weights.formats.architecture import Known, describe
from openmae.weights.formats.configuration import numbers, positive, sides
from openmae.weights.formats.keys import ENCODER, KeyTable, first_of, rename
from openmae.weights.formats.kinds import appearance
from openmae.weights.stored import Stored
from openmae.weights.torch_files import attributes
from openmae.weights.weights import Weights

NAME = "timm"

PLAIN = KeyTable({**{name: name for name in ENCODER}, "fc_norm": "fc_norm", "head": "head"})
IGNORED = (
    "mask_token",  # of DINOv2: takes the place of hidden patches, in its own training only
    "head.mlp.",  # of DINO: the projection that its loss is computed on
    "head.last_layer.",  # the same
)
SIZES = frozenset({"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads"})
"""Arguments of timm's class that the tensors show, or that are passed on."""
HARMLESS = SIZES | {"num_classes", "global_pool", "decoder_num_heads", "dynamic_img_size"}
"""These, and arguments that do not change what the encoder computes."""


def recognises(stored: Stored) -> bool:
    """Whether the keys are timm's, and not those of a file of the reference."""
    keys = _bare(stored.tensors)
    return "patch_embed.proj.weight" in keys and _has_blocks(keys) and not fair.recognises(stored)


def weights_from(stored: Stored, *, normalised: bool | None = None) -> Weights:  # noqa: ARG001, no decoder here
    """The weights in a file of timm.

    Args:
        stored: what the file contains.
        normalised: has no meaning here, because timm has no decoders.

    Raises:
        UserError: when the architecture is neither plain nor named, or not one that OpenMAE builds.
    """
    tensors = {name: tensor for name, tensor in _bare(stored.tensors).items() if not name.startswith(IGNORED)}
    architecture = stored.config.get("architecture") or attributes(stored.beside).get("arch")
    if not isinstance(architecture, str):
        _require_plain(tensors, stored)
        architecture = None
    options = attributes(stored.config.get("model_args"))
    unusual = sorted(name for name in options if name not in HARMLESS)
    if unusual:
        raise UserError(
            f"{stored.file} was made with {first_of(unusual)}, which OpenMAE does not pass to timm; give a network of "
            "one of timm's own architectures"
        )
    pixels = attributes(stored.config.get("pretrained_cfg")) or attributes(stored.config)
    network, assumed = describe(
        tensors,
        stored.file,
        Known(
            backbone=None if architecture is None else architecture.partition(".")[0],
            image_size=sides(options.get("img_size"), "img_size", stored.file),
            heads=positive(options, "num_heads", stored.file),
            mean=numbers(pixels, "mean", stored.file),
            std=numbers(pixels, "std", stored.file),
            interpolation=_interpolation(pixels),
        ),
    )
    return Weights(
        tensors=tensors,
        network=replace(network, eval_resize=_eval_resize(pixels, network.image_size, stored) or network.eval_resize),
        file=stored.file,
        layout=NAME,
        assumed=(*stored.assumed, *assumed),
    )


def tensors_to(weights: Weights) -> dict[str, Tensor]:
    """The encoder's tensors, and its classifier's, as timm's class has them.

    Raises:
        UserError: for a decoder, or a linear probe, whose batch normalisation timm has no place for.
    """
    if weights.has_decoder:
        raise UserError("timm has no place for a decoder; leave it out, or use another layout")
    if "head.0.running_mean" in weights.tensors:
        raise UserError("timm has no place for the batch normalisation of a linear probe; leave the probe out")
    return dict(weights.tensors)


def config_of(weights: Weights) -> dict[str, Any]:
    """The content of `config.json`: `timm.create_model("hf-hub:…")` makes the network and its transform from it."""
    network, encoder = weights.network, weights.encoder()
    geometry = {"img_size": list(network.image_size), "patch_size": network.patch_size, "embed_dim": network.width}
    classes = len(encoder["head.weight"]) if weights.has_head else 0
    pooled = "avg" if "fc_norm.weight" in encoder else "token" if "cls_token" in encoder else None
    sizes = {**geometry, "depth": network.depth, "num_heads": network.heads, "in_chans": network.channels}
    options = {**sizes, "num_classes": classes, "global_pool": pooled}
    return {
        "architecture": network.backbone,
        "num_classes": classes,
        "num_features": network.architecture.width,
        **({"global_pool": pooled} if pooled else {}),
        "model_args": {name: value for name, value in options.items() if value is not None},
        "pretrained_cfg": {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in input_of(network).items()},
            "num_classes": classes,
        },
    }


def input_of(network: Network) -> dict[str, Any]:
    """How the network wants its images, as timm's `pretrained_cfg` says it: `timm.data.create_transform` reads it.

    timm cannot say everything: of images that are not square, ours are cropped less where they are higher than the
    network's, and it knows no pixels but 8-bit ones.
    """
    statistics = {"mean": network.mean, "std": network.std} if network.mean else {}
    return {
        "input_size": (network.channels, *network.image_size),
        "fixed_input_size": True,
        "interpolation": network.interpolation,
        "crop_pct": _crop_pct(min(network.image_size), network.eval_resize),
        "crop_mode": "center",
        **statistics,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


def _crop_pct(side: int, resized: int) -> float:
    """The share from which timm computes `resized` again: the side divided by it, rounded down."""
    share = side / resized
    return share if floor(side / share) == resized else side / (resized + 1e-6)


def _bare(tensors: Any) -> dict[str, Tensor]:
    """Without the `backbone.` of DINO's own checkpoints."""
    inside = "backbone.patch_embed.proj.weight" in tensors
    return {name.removeprefix("backbone.") if inside else name: tensor for name, tensor in tensors.items()}


def _has_blocks(keys: Any) -> bool:
    return any(name.startswith("blocks.0.") for name in keys)


def _require_plain(tensors: dict[str, Tensor], stored: Stored) -> None:
    unknown = rename(tensors, PLAIN.ours, stored.file).unknown
    if unknown or "cls_token" not in tensors:
        differs = f"also has {first_of(unknown)}" if unknown else "has no cls_token"
        raise UserError(
            f"{stored.file} has timm's names but {differs}{appearance(unknown)}, and the tensors do not show which "
            "architecture it is; put it into a folder with timm's config.json, at least "
            '{"architecture": "NAME OF TIMM\'S MODEL"}'
        )


def _interpolation(pixels: Any) -> Interpolation:
    return "bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic"


def _eval_resize(pixels: Any, image_size: tuple[int, int], stored: Stored) -> int | None:
    """The short side, of which timm crops the share `crop_pct`; None where the file is silent."""
    share = pixels.get("crop_pct")
    if share is None:
        return None
    if not isinstance(share, int | float) or not 0.1 <= share <= 1:
        raise UserError(
            f"crop_pct is {str(share)[:40]!r} in the configuration of {stored.file}; correct it to a share up to 1"
        )
    return floor(min(image_size) / share)
