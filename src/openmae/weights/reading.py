"""Weights from files: what `--weights` names, read, recognised and verified."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from openmae.core.geometry import size_text
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.reporter import say
from openmae.weights.containers import read_stored
from openmae.weights.finding import weights_file
from openmae.weights.formats import fair, huggingface, mm, own, timm
from openmae.weights.formats.keys import first_of
from openmae.weights.formats.kinds import appearance
from openmae.weights.stored import Stored
from openmae.weights.weights import Weights


class Convert(Protocol):
    """From a file's content to `Weights`; `normalised` overrides what the file says about the decoder's target."""

    def __call__(self, stored: Stored, *, normalised: bool | None = None) -> Weights: ...


class Layout(NamedTuple):
    """A layout, by its name, its way to be recognised, and its conversion to ours."""

    name: str
    recognises: Callable[[Stored], bool]
    weights_from: Convert


OURS = Layout("OpenMAE", own.recognises, own.weights_from)
"""Known by its metadata, so that it never competes with those that are known by their keys."""
LAYOUTS = (
    Layout(fair.NAME, fair.recognises, fair.weights_from),
    Layout(mm.NAME, mm.recognises, mm.weights_from),
    Layout(huggingface.NAME, huggingface.recognises, huggingface.weights_from),
    Layout(timm.NAME, timm.recognises, timm.weights_from),
)


def read_weights(spec: str | Path, *, with_decoder: bool = False, normalised: bool | None = None) -> Weights:
    """Read a run folder, a checkpoint, or a file or folder of weights in any layout that is known.

    Args:
        spec: a path.
        with_decoder: of a run folder, prefer the whole autoencoder to the encoder alone.
        normalised: whether the decoder predicts pixels normalised per patch, for a foreign file that does not say it.

    Raises:
        UserError: when there is none, or it cannot be read, or its layout is unknown or ambiguous.
    """
    path = Path(spec)
    if not path.exists():
        raise UserError(f"there are no weights at {path}; give a run folder, a checkpoint or an encoder.safetensors")
    stored = read_stored(weights_file(path, with_decoder=with_decoder))
    weights = layout_of(stored).weights_from(stored, normalised=normalised)
    if weights.recipe is None:
        say(_description(weights))
    return weights


def read_whole(spec: str | Path) -> Weights:
    """As `read_weights`: of a pre-training the whole autoencoder, of everything else the encoder and its classifier."""
    whole = read_weights(spec, with_decoder=True)
    # Only a pre-training has a decoder; the checkpoint of another stage has its classifier under other names.
    return whole if whole.recipe is None or isinstance(whole.recipe, PretrainRecipe) else read_weights(spec)


def layout_of(stored: Stored) -> Layout:
    """The layout of a file: ours when its metadata say so, else the one that has these keys.

    Raises:
        UserError: when there is none, or more than one.
    """
    if OURS.recognises(stored):
        return OURS
    found = [layout for layout in LAYOUTS if layout.recognises(stored)]
    if len(found) == 1:
        return found[0]
    keys = first_of(stored.tensors) or "no tensors"
    if found:
        raise UserError(
            f"{stored.file} has the keys of {' and of '.join(layout.name for layout in found)} ({keys}); it mixes two "
            "models: separate them"
        )
    raise UserError(
        f"{stored.file} does not say which network it is for, and no known layout has its keys ({keys})"
        f"{appearance(stored.tensors)}; give a run folder of `openmae pretrain`, or a Vision Transformer of "
        f"{', '.join(layout.name for layout in LAYOUTS)}"
    )


def _description(weights: Weights) -> str:
    """A description for the user of the weights that were read, with the assumptions made."""
    network = weights.network
    parts = [f"{network.backbone} at {size_text(network.image_size)} pixels"]
    if weights.has_decoder:
        target = "pixels normalised per patch" if network.normalise_target else "raw pixels"
        parts.append(f"with a decoder for {target}")
    if weights.has_head:
        parts.append("with a classifier")
    assumed = "".join(f"\n  {note}" for note in weights.assumed)
    return f"{weights.file}: {', '.join(parts)}, in the layout of {weights.layout}{assumed}"
