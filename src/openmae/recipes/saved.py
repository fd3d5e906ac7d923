"""Recipes as text: the YAML of a run folder, of a weights file and of `openmae recipes NAME`."""

import dataclasses
from typing import Any

import yaml

from openmae.errors import UserError
from openmae.recipes.recipe import Recipe
from openmae.recipes.stages import RECIPE_TYPES
from openmae.recipes.values import Every, ImageSize


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, with rare line breaks escaped. Without that they read back as blanks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(line_break in text for line_break in "\x85\u2028\u2029") else None  # quoted, they are escaped
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values only, in the order of the fields, `stage` first."""

    def plain(value: Any) -> Any:
        if isinstance(value, ImageSize | Every):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    values = {field.name: plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    return {"stage": recipe.stage, **values}


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML; `from_yaml` reads it back."""
    return yaml.dump(to_dict(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> Recipe:
    """Read a recipe that `to_yaml` wrote. Fields that are missing take their defaults.

    Raises:
        UserError: when the text is not a recipe, or a value does not fit; the message names the field.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 0000-00-00
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"not a readable recipe ({problem}); `openmae recipes NAME` prints one") from error
    if not isinstance(values, dict) or str(values.get("stage")) not in RECIPE_TYPES:
        *stages, last = RECIPE_TYPES
        raise UserError(
            f"not a recipe: it has no stage of {', '.join(stages)} or {last}; `openmae recipes NAME` prints one"
        )
    kind = RECIPE_TYPES[values.pop("stage")]
    fields = dataclasses.fields(kind)
    if unknown := sorted(map(str, set(values) - {field.name for field in fields})):
        raise UserError(f"unknown recipe fields: {', '.join(unknown)}; `openmae recipes NAME` prints the known ones")
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise UserError(
            f"incomplete recipe: it has no {', '.join(map(repr, missing))}; `openmae recipes NAME` prints a whole one"
        )
    return kind(**values)
