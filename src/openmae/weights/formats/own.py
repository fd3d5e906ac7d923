"""Files that OpenMAE writes: their metadata hold the whole recipe, so the network is built from the file alone."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from openmae.recipes import Recipe
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.weights.networks import network_of
from openmae.weights.weights import Weights

RECIPE_KEY = "openmae.recipe"


def recipe_metadata(recipe: Recipe) -> dict[str, str]:
    """The metadata of a weights file of this recipe."""
    return {RECIPE_KEY: to_yaml(recipe)}


def recognises(metadata: Mapping[str, str]) -> bool:
    """Whether OpenMAE wrote the file with these metadata."""
    return RECIPE_KEY in metadata


def weights_from(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: Path) -> Weights:
    """The weights in a file of ours.

    Raises:
        UserError: when the recipe in it cannot be read.
    """
    recipe = from_yaml(metadata[RECIPE_KEY])
    return Weights(tensors=tensors, network=network_of(recipe), file=file, recipe=recipe)
