"""`--batch-size auto`: the recipe's own batch, in as few accumulation steps as memory permits."""

from collections.abc import Sequence
from typing import Any

from openmae.errors import UserError
from openmae.recipes import Recipe

AUTO, BATCH = "auto", "--batch-size"
NOT_BOTH = f"{BATCH} auto chooses --accumulate; give one of the two"


def take_automatic_batch(recipe: Recipe, words: Sequence[str]) -> tuple[list[str], bool]:
    """The words with the recipe's own batch in place of `auto`, and whether that was there."""
    taken, automatic = list(words), False
    if recipe.stage != "pretrain":
        return taken, automatic
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != BATCH:
            continue
        if value == AUTO:
            taken[place], automatic = f"{BATCH}={recipe.batch_size}", True
        elif not equals and list(words[place + 1 : place + 2]) == [AUTO]:
            taken[place + 1], automatic = str(recipe.batch_size), True
    return taken, automatic


def resolve_batch(fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The fields without `batch_size="auto"`, and whether it was among them: the batch is then the recipe's own.

    Raises:
        UserError: when accumulation steps are given, too.
    """
    if fields.get("batch_size") != AUTO:
        return fields, False
    if "accumulate" in fields:
        raise UserError(NOT_BOTH)
    return {name: value for name, value in fields.items() if name != "batch_size"}, True
