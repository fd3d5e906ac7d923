"""The batch of a recipe where there are few images."""

from dataclasses import replace
from typing import TypeVar

from openmae.recipes.recipe import Recipe
from openmae.reporter import say

R = TypeVar("R", bound=Recipe)


def fit_batch(recipe: R, images: int, *, even: bool = False) -> R:
    """`recipe`, with a smaller batch where there are not enough images for one; mixup wants an `even` number."""
    if images >= recipe.batch_size:
        return recipe
    say(f"{images} images do not fill a batch of {recipe.batch_size}: taking all of them as one batch")
    return replace(recipe, batch_size=max(1, images - images % 2 if even else images))
