"""Whether a run of one recipe may be continued with another."""

from typing import Any, NamedTuple

from openmae.recipes.recipe import Recipe
from openmae.recipes.saved import to_dict


class Difference(NamedTuple):
    """A field with another value in another recipe, both as YAML has them."""

    field: str
    old: Any
    new: Any


def differences_in_results(old: Recipe, new: Recipe) -> list[Difference]:
    """The fields of `new` that change results and whose value in `old` is another one, or missing.

    When there are none, a run of `old` may be continued with `new`.
    """
    before, now = to_dict(old), to_dict(new)
    may_change = new.fields_without_effect()
    return [
        Difference(field, before.get(field), value)
        for field, value in now.items()
        if field not in may_change and before.get(field) != value
    ]
