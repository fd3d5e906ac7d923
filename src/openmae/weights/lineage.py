"""Where weights come from: the run folder that made them, and the licence of what its training started from."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from openmae.checkpoints.names import RECIPE
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.saved import from_yaml
from openmae.recipes.zoo import ZOO, ZooEntry
from openmae.weights.fetching import ZOO_SCHEME
from openmae.weights.formats.own import RECIPE_KEY
from openmae.weights.hub import SCHEME as HUB
from openmae.weights.hub import HubModel, cached_model, licence_of

MOST_STEPS = 20  # from one training to the weights that it started from; more is a circle


class Origin(NamedTuple):
    """The start of the trainings: `licence` as an SPDX name, "" when none is known, and a sentence about it."""

    licence: str
    words: str


def run_of(source: str | Path) -> Path | None:
    """The run folder that a path leads to: itself, or that of a checkpoint or file in it; None for everything else."""
    path = Path(source)
    return next((folder for folder in (path, *list(path.parents)[:3]) if (folder / RECIPE).is_file()), None)


def origin_of(source: str | Path, recipe: Recipe | None) -> Origin:
    """The licence of the weights that a chain of trainings started from.

    Args:
        source: the weights.
        recipe: how they were trained; None for a file of another project.
    """
    at, trained = str(source), recipe
    for _ in range(MOST_STEPS):
        if trained is None:
            return _foreign(at)
        start: str | None = getattr(trained, "weights", None)
        if start is None:
            return Origin(
                "", "The training started from random weights. Whoever publishes the result chooses its licence."
            )
        at = start
        trained = _recipe_at(at)
    return Origin(
        "", "The trainings before this one lead in a circle, so that the licence of their start is not known."
    )


def _foreign(spec: str) -> Origin:
    entry = _published(spec)
    if entry is not None:
        return Origin(
            entry.licence.lower(),
            f"The start was the published file `{ZOO_SCHEME}{entry.name}`, which is under {entry.licence}; what is "
            "trained from it is under the same terms.",
        )
    if "://" not in spec and not Path(spec).exists():
        return Origin("", "The start was weights that are gone, so that their licence is not known.")
    if spec.startswith(HUB):
        folder = cached_model(HubModel.parse(spec))
        place = None if folder is None else folder if folder.is_dir() else folder.parent
        name = spec
    else:
        place = Path(spec) if Path(spec).is_dir() else Path(spec).parent
        name = "a file of another project"
    licence = "" if place is None else licence_of(place / "README.md")
    if licence:
        return Origin(licence, f"The start was {name}, whose card names the licence {licence}; its terms carry on.")
    return Origin("", f"The start was {name}, which does not name its licence. Find it before you publish the result.")


def _published(spec: str) -> ZooEntry | None:
    """The published row that an address names, or a file in the cache, whose folder has the row's name."""
    if spec.startswith(ZOO_SCHEME):
        return ZOO.get(spec.removeprefix(ZOO_SCHEME))
    by_url = next((entry for entry in ZOO.values() if entry.url is not None and entry.url == spec), None)
    return by_url or ZOO.get(Path(spec).parent.name)


def _recipe_at(spec: str) -> Recipe | None:
    """The recipe of the weights at a path; None for another project's, and for those that are gone."""
    if "://" in spec or spec.startswith(ZOO_SCHEME):
        return None
    path, run = Path(spec), run_of(spec)
    try:
        if path.suffix == ".safetensors" and path.is_file():
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(RECIPE_KEY)
            if text is not None:
                return from_yaml(text)
            return None
        return None if run is None else from_yaml((run / RECIPE).read_text(encoding="utf-8"))
    except (OSError, SafetensorError, UserError):
        return None
