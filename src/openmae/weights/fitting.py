"""Which parts of a network another layout can hold."""

from dataclasses import replace
from typing import NamedTuple

from openmae.core.geometry import size_text
from openmae.errors import UserError
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.formats.keys import first_of
from openmae.weights.results import TargetName
from openmae.weights.weights import DECODER_PREFIX, HEAD_PREFIX, Weights

NAMES: dict[TargetName, str] = {
    "fair": fair.NAME,
    "mmpretrain": mm.NAME,
    "huggingface": huggingface.NAME,
    "timm": timm.NAME,
}
POOLED_NORM = "fc_norm."


class Lost(NamedTuple):
    """A part that a layout has no place for: what it is, why, and the prefixes of its tensors."""

    part: str
    why: str
    prefixes: tuple[str, ...]


class Fitted(NamedTuple):
    """Weights that a layout can hold, and the parts that were left out."""

    weights: Weights
    dropped: list[str]


def fit(weights: Weights, target: TargetName, *, drop: bool) -> Fitted:
    """The weights that the target can hold.

    Args:
        weights: the source.
        target: whose layout will be written.
        drop: leave out the parts that it cannot hold, rather than refuse.

    Raises:
        UserError: when a part would be lost and `drop` is off, or when the encoder itself does not fit.
    """
    _require_encoder(weights, target)
    lost = _lost(weights, target)
    for part in lost:
        names = [name for name in weights.tensors if name.startswith(part.prefixes)]
        if not drop:
            raise UserError(
                f"{NAMES[target]} has no place for {part.part} of {weights.file}{part.why}; {len(names)} tensors would "
                f"be lost ({first_of(names)}): give --drop to leave them out, or another --to"
            )
        if DECODER_PREFIX in part.prefixes:
            weights = weights.without_decoder()
        kept = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(part.prefixes)}
        weights = replace(weights, tensors=kept)
    if not weights.has_decoder:
        weights = weights.without_decoder()  # the recipe of a pre-training describes a decoder that is not in the file
    return Fitted(weights, [part.part for part in lost])


def _lost(weights: Weights, target: TargetName) -> list[Lost]:
    decoder = Lost("the decoder", "", (DECODER_PREFIX,))
    probe = "head.0.running_mean" in weights.tensors
    if target == "timm":
        lost = [decoder] if weights.has_decoder else []
        why = ", which has a batch normalisation"
        return [*lost, Lost("the linear probe", why, (HEAD_PREFIX,))] if probe else lost
    if target == "huggingface":
        height, width = weights.network.image_size
        square = height == width
        why = f", because ViTMAE takes square images, not {size_text(weights.network.image_size)}"
        lost = [] if square or not weights.has_decoder else [decoder._replace(why=why)]
        if probe:
            lost.append(Lost("the linear probe", ", which has a batch normalisation", (HEAD_PREFIX,)))
        elif "fc_norm.weight" in weights.tensors:
            lost.append(Lost("the classifier", ", which takes the mean of the patches", (HEAD_PREFIX, POOLED_NORM)))
        return lost
    return []


def _require_encoder(weights: Weights, target: TargetName) -> None:
    """Refuse what no `--drop` can help: an encoder that the target's class does not compute."""
    encoder = weights.encoder()
    if target == "timm":
        return
    for needed, words in (("cls_token", "a class token"), ("pos_embed", "a table of positions")):
        if needed not in encoder:
            raise UserError(
                f"{weights.file} is a network without {words}, which {NAMES[target]} always has; use --to timm"
            )
    if target == "huggingface" and "norm.weight" not in encoder:
        raise UserError(
            f"{weights.file} has no norm on its tokens, only one behind the mean of the patches, which Hugging Face's "
            "ViT cannot compute; use --to fair, mmpretrain or timm"
        )
