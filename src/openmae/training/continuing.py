"""Whether a run folder may be continued with this recipe, on these images, from these weights."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from openmae.checkpoints.checkpoint import directory_name, list_checkpoints
from openmae.checkpoints.names import CHECKPOINTS, DATA, METRICS, RECIPE, RESULTS
from openmae.data.sources.storage import is_remote, resolve
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe, Recipe
from openmae.recipes.differences import Difference, differences_in_results
from openmae.recipes.saved import from_yaml
from openmae.training.fingerprint import Fingerprint, changes, read_fingerprint

R = TypeVar("R", bound=Recipe)
PLACES = ("data", "labels")
FOLLOW_FROM_DATA = ("mean", "std", "pixel_type", "batch_size")
"""Fields that a recipe leaves to the images: their values change with them."""


class Compared(NamedTuple):
    """The images and the first weights of a run beside those that it began with; the same in every process.

    Args:
        known: whether the run recorded its images.
        change: every change of them, in words; "" when there is none.
        same_weights: whether the tensors are those that it started from; None when that is not recorded.
        accepted: the changes that were accepted since the run began.
    """

    known: bool
    change: str
    same_weights: bool | None
    accepted: tuple[str, ...] = ()


NOT_COMPARED = Compared(known=False, change="", same_weights=None)


def compare(path: Path, data: Fingerprint) -> Compared:
    """The run in `path` beside the images and weights of the present command."""
    old = read_fingerprint(path / DATA) if has_begun(path) else None
    if old is None:
        return NOT_COMPARED
    same_weights = old.weights == data.weights if old.weights and data.weights else None
    return Compared(known=True, change=changes(old, data), same_weights=same_weights, accepted=old.accepted)


def has_begun(path: Path) -> bool:
    """Whether anything of a run would be lost: a figure, or a checkpoint of more than the first weights."""
    if any((path / name).exists() for name in (METRICS, RESULTS)):
        return True
    return any(checkpoint.name != directory_name(0) for checkpoint in list_checkpoints(path / CHECKPOINTS))


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe of the run in a folder; None where no run has begun."""
    file = path / RECIPE
    return from_yaml(file.read_text(encoding="utf-8")) if file.is_file() and has_begun(path) else None


def require_continuable(path: Path, recipe: Recipe, compared: Compared = NOT_COMPARED) -> None:
    """Raise UserError when `path` holds a run of another recipe or of other images; the message says what differs."""
    old = recorded_recipe(path)
    if old is None:
        return
    change = "" if recipe.accept_changed_data else compared.change
    found = _differences(old, recipe, compared)
    if found:
        shown = ", ".join(f"{name} {before} there, {now} now" for name, before, now in found[:3])
        images = f"; images: {change}" if change else ""
        raise UserError(
            f"{path} holds another run ({shown}{images}); use another --out, or the same command as before to continue "
            "it"
        )
    if not change:
        return
    if (path / RESULTS).is_file():
        raise UserError(
            f"{path} holds the results of other images ({change}); use another --out for these, or give "
            "--accept-changed-data to see the results of those"
        )
    raise UserError(
        f"{path} was begun on other images ({change}); give --accept-changed-data to go on with these, or use another "
        "--out"
    )


def moved_to(old: Recipe, recipe: Recipe) -> str:
    """A sentence for the user when the same images lie in another place; "" otherwise."""
    if same_place(old.data, recipe.data):
        return ""
    return f"the images of {_shown(old.data)} are now read from {_shown(recipe.data)}: the same names and sizes"


def keep_recorded(path: Path, asked: R, filled: R) -> R:
    """`filled`, for a run that goes on with changed images: statistics and batch stay what the run began with.

    Args:
        path: the run folder.
        asked: the recipe of the user.
        filled: the recipe, with the values that it left to the images.
    """
    old = recorded_recipe(path) if asked.accept_changed_data else None
    if old is None:
        return filled
    kept = {name: getattr(old, name) for name in FOLLOW_FROM_DATA if getattr(filled, name) != getattr(asked, name)}
    data = read_fingerprint(path / DATA)
    if data is not None and old.batch_size < asked.batch_size:
        images = data.images["split"].to_pylist().count("train") * getattr(asked, "repeats", 1)
        if images - old.batch_size in (0, 1):  # all images were one batch, or all but one where mixup pairs them
            kept["batch_size"] = old.batch_size
    return replace(filled, **kept)


def same_place(one: object, other: object) -> bool:
    """Whether two texts, or lists of them, name the same places: photos, photos/, ./photos, or a link to it."""
    return _resolved(one) == _resolved(other)


def _resolved(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [place for part in value for place in _resolved(part)]
    place = str(value)
    with contextlib.suppress(UserError):  # a URL whose driver is missing can still be compared
        place = resolve(place)
    return [place.rstrip("/") if is_remote(place) else os.path.realpath(place)]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _differences(old: Recipe, recipe: Recipe, compared: Compared) -> list[Difference]:
    """The differences that make it another run."""
    found = []
    images_decide = compared.known and (recipe.accept_changed_data or not compared.change)
    for difference in differences_in_results(old, recipe):
        field = difference.field
        if field in PLACES and (images_decide or same_place(difference.old, difference.new)):
            continue
        if field == "labels" and isinstance(recipe, PretrainRecipe):
            continue
        if field == "weights" and (
            compared.same_weights or (compared.same_weights is None and same_place(difference.old, difference.new))
        ):
            continue
        if field in FOLLOW_FROM_DATA and compared.change and not recipe.accept_changed_data:
            continue
        found.append(difference)
    if compared.same_weights is False and all(difference.field != "weights" for difference in found):
        found.append(Difference("weights", getattr(old, "weights", None), "other tensors at the same place"))
    return found
