"""What a report shows of images: the network of a run is loaded, its images are drawn, and it is run over them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from openmae.errors import UserError
from openmae.reporter import say
from openmae.reporting.report.looking import Looks, look
from openmae.reporting.report.over_time import Frames, frames_from_checkpoints, frames_of
from openmae.reporting.report.sample import Sample, draw_sample
from openmae.weights.building import LoadedAutoencoder, load_autoencoder

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network made of images; `frames_note` and `sample` say in words what is shown."""

    looks: Looks | None = None
    frames: Frames | None = None
    frames_note: str = ""
    sample: str = ""
    parameters: int | None = None


def see(folder: Path, places: tuple[str, ...], *, images: int, seed: int) -> Seen:
    """Run the network of a pre-training over images of these places. What cannot be had is left out, and said."""
    frames = frames_of(folder)
    note = "The same images with the same masks, as the training went on. Move the first slider to compare."
    loaded = attempt("the network", lambda: load_autoencoder(folder))
    if loaded is None:
        return Seen(frames=frames, frames_note=note)
    parameters = sum(parameter.numel() for parameter in loaded.model.encoder.parameters())
    known = Seen(frames=frames, frames_note=note, parameters=parameters)
    if not places or not images:
        return known
    sample = attempt("the images", lambda: draw_sample(loaded.network, places, count=images, seed=seed))
    if sample is None or not len(sample):
        return known
    with torch.inference_mode():
        looks = attempt("the pictures", lambda: look(loaded, sample, seed=seed))
        if frames is None:
            frames = attempt("checkpoints", lambda: frames_from_checkpoints(folder, sample, seed=seed))
            note = "From the checkpoints that are left: this training wrote no pictures."
    return Seen(
        looks=looks, frames=frames, frames_note=note, sample=_describe(sample, looks, loaded), parameters=parameters
    )


def _describe(sample: Sample, looks: Looks | None, loaded: LoadedAutoencoder) -> str:
    """Which images are shown, in a sentence."""
    shown = len(sample) if looks is None else looks.images
    seen = "which the training did not use" if sample.held_out else "which it was trained on"
    hidden = f"{100 * loaded.mask_ratio:.3g} % of the patches are hidden"
    return f"From {shown:,} of {sample.total:,} images of the {sample.split} split, {seen}; {hidden}."


def attempt(what: str, get: Callable[[], T]) -> T | None:
    """The value, or None where the user's files do not give it, which is said."""
    try:
        return get()
    except (UserError, OSError) as error:
        say(f"the report goes without {what}: {error}")
        return None
