"""Recipes: every row of the published table, and small ones, as plain data."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from openmae.errors import WrongUsage
from openmae.recipes.adapting import adapting_recipe
from openmae.recipes.published import published_recipes
from openmae.recipes.recipe import Recipe, Stage
from openmae.recipes.small import small_recipes
from openmae.recipes.stages import FinetuneRecipe, LinearRecipe, PretrainRecipe, SupervisedRecipe

__all__ = [
    "RECIPES",
    "FinetuneRecipe",
    "LinearRecipe",
    "PretrainRecipe",
    "Recipe",
    "Stage",
    "SupervisedRecipe",
    "find_recipe",
]

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (*small_recipes(), adapting_recipe(), *published_recipes())}
)


def find_recipe(name: str, stage: Stage | None = None) -> Recipe:
    """The recipe called `name`; with a `stage`, also by the name of its pre-training recipe ("cifar10" to linear).

    Raises:
        WrongUsage: when there is none; the message names the nearest.
    """
    for candidate in (name, f"{name}-{stage}", f"{name.removesuffix('-mm')}-{stage}-mm"):
        recipe = RECIPES.get(candidate)
        if recipe is not None and stage in (None, recipe.stage):
            return recipe
    names = [recipe.name for recipe in RECIPES.values() if stage in (None, recipe.stage)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`openmae recipes` lists them."
    if name in RECIPES:
        raise WrongUsage(f"{name} is a recipe for {RECIPES[name].stage}, not for {stage}; {hint}")
    raise WrongUsage(f"there is no {stage + ' ' if stage else ''}recipe called {name!r}; {hint}")
