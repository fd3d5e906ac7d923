"""Our own files: the metadata hold the whole recipe, so that the network can be built from the file alone."""

import json
from typing import Any

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.weights.networks import network_of
from openmae.weights.stored import Stored
from openmae.weights.weights import Weights

RECIPE_KEY = "openmae.recipe"
TASK_KEY = "openmae.task"


def recipe_metadata(recipe: Recipe) -> dict[str, str]:
    """The metadata of a file of weights that this recipe made."""
    return {RECIPE_KEY: to_yaml(recipe)}


def recognises(stored: Stored) -> bool:
    """Whether we wrote the file."""
    return RECIPE_KEY in stored.metadata


def weights_from(stored: Stored, *, normalised: bool | None = None) -> Weights:  # noqa: ARG001, the recipe says it
    """The weights in a file of ours.

    Args:
        stored: what the file contains.
        normalised: has no meaning here, because the recipe says it.

    Raises:
        UserError: when the recipe in it cannot be read.
    """
    recipe = from_yaml(stored.metadata[RECIPE_KEY])
    return Weights(
        tensors=stored.tensors, network=network_of(recipe), file=stored.file, recipe=recipe, notes=_notes(stored)
    )


def _notes(stored: Stored) -> dict[str, Any]:
    """The meaning of the outputs of a classifier, where the file has one."""
    try:
        notes = json.loads(stored.metadata.get(TASK_KEY, "{}"))
    except ValueError:
        notes = None
    if not isinstance(notes, dict):
        raise UserError(f"{stored.file} says what its outputs mean in no readable way; it is damaged: use another copy")
    return notes
