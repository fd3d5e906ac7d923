"""Whether a run of one recipe may be continued with another."""

from typing import Any, NamedTuple

from openmae.recipes.recipe import Recipe
from openmae.recipes.saved import to_dict
from openmae.recipes.stages import SupervisedRecipe


class Difference(NamedTuple):
    """A field with another value in another recipe, both as YAML has them."""

    field: str
    old: Any
    new: Any


def differences_in_results(old: Recipe, new: Recipe) -> list[Difference]:
    """The fields of `new` that change results and whose value in `old` is another one, or missing.

    When there are none, a run of `old` may be continued with `new`.
    """
    before, now = _as_used(old), _as_used(new)
    may_change = new.fields_without_effect()
    return [
        Difference(field, before.get(field), value)
        for field, value in now.items()
        if field not in may_change and before.get(field) != value
    ]


def _as_used(recipe: Recipe) -> dict[str, Any]:
    """The values of a recipe, with those that follow from others: a run that recorded such a value is not another."""
    values = to_dict(recipe)
    return {**values, "eval_resize": recipe.resized_to} if isinstance(recipe, SupervisedRecipe) else values
