"""A warm-up that fits the length of the run."""

from dataclasses import replace
from typing import NamedTuple

from openmae.recipes.recipe import AS_WEIGHTS, Recipe

LONGEST_SHARE = 1 / 3


class Fitted(NamedTuple):
    """A recipe, and a sentence about its warm-up; "" when there is nothing to say."""

    recipe: Recipe
    note: str


def fit_warmup(recipe: Recipe, *, named: Recipe, given: bool) -> Fitted:
    """`recipe` with a warm-up in proportion, where that of the `named` recipe is too long for the epochs of the user;
    of a recipe that goes on from weights with any number of epochs.

    A rate that rises for most of a run never comes down, and such a run ends with a poor network.

    Args:
        recipe: the named recipe with the values that the user gave.
        named: the recipe without them.
        given: whether the user gave the warm-up, which is kept then.
    """
    always_in_proportion = named.backbone == AS_WEIGHTS and not given and recipe.epochs != named.epochs
    if recipe.warmup_epochs <= LONGEST_SHARE * recipe.epochs and not always_in_proportion:
        return Fitted(recipe, "")
    if given or recipe.epochs == named.epochs:
        return Fitted(
            recipe,
            f"the warm-up takes {recipe.warmup_epochs:g} of {recipe.epochs} epochs, more than a third of the run; "
            f"--warmup-epochs {recipe.epochs / 10:g} would leave time to learn",
        )
    shorter = float(f"{named.warmup_epochs * recipe.epochs / named.epochs:.4g}")
    return Fitted(
        replace(recipe, warmup_epochs=shorter),
        f"the warm-up is {shorter:g} of {recipe.epochs} epochs, in proportion to {named.warmup_epochs:g} of "
        f"{named.epochs}; --warmup-epochs sets another",
    )
