"""What repeats a run: its environment, its recipe, and the commands."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openmae.recipes import RECIPES
from openmae.recipes.saved import to_dict
from openmae.recipes.stages import RECIPE_TYPES
from openmae.reporting.report.data_set import places_of
from openmae.reporting.report.measured import items, mapping

ABOUT_RECIPE = {"stage", "name", "follows", "published_top1", "published_by", "note", "published_linear_top1"}
"""Fields that say where a recipe comes from."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the recipe: its value in each run, and what the recipe of that name has; None where nobody knows."""

    name: str
    values: tuple[str, ...]
    usual: str | None

    @property
    def differs(self) -> bool:
        """Whether the runs have different values."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and what it does."""

    what: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """Environment (name and value), the fields of the recipe that were changed or differ, all of it, and commands."""

    environment: list[tuple[str, str]]
    fields: list[Field]
    recipe: str
    commands: list[Command]


def repeating(runs: Sequence[tuple[Path, Mapping[str, Any]]], environment: Mapping[str, Any]) -> Repeating:
    """What repeats the first of the runs, each a folder and its recipe, and the differences of the others."""
    folder, recipe = runs[0]
    return Repeating(
        environment=_environment(environment),
        fields=changed_fields([recipe for _, recipe in runs]),
        recipe=yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True),
        commands=_commands(folder, recipe, environment),
    )


def changed_fields(recipes: Sequence[Mapping[str, Any]]) -> list[Field]:
    """The fields in which the runs differ; of one run, those in which it differs from the recipe of its name.

    Fields that change no result, such as the number of workers, are left out.
    """
    first = recipes[0]
    kinds = [kind for stage, kind in RECIPE_TYPES.items() if stage == first.get("stage")]
    without_effect = {name for kind in kinds for name in kind.fields_without_effect()}
    usual = _usual(first)
    names = [name for name in dict.fromkeys(name for one in recipes for name in one) if name not in without_effect]
    fields = []
    for name in names:
        values = tuple(_shown(one.get(name)) for one in recipes)
        known = None if usual is None else _shown(usual.get(name))
        if len(set(values)) > 1 or (len(recipes) == 1 and known is not None and values[0] != known):
            fields.append(Field(name=name, values=values, usual=known))
    return [one for one in fields if one.name not in ABOUT_RECIPE or (one.name == "name" and one.differs)]


def _usual(recipe: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The recipe of this name and stage as it comes with the program; None when there is none."""
    for known in RECIPES.values():
        if known.name == recipe.get("name") and known.stage == recipe.get("stage"):
            return to_dict(known)
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(one) for one in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    accelerators = items(environment.get("accelerators"))
    shown = {
        "started": environment.get("started"),
        "accelerators": ", ".join(map(str, accelerators)) or "none",
        "processors": environment.get("processors"),
        "threads": environment.get("threads"),
        "platform": environment.get("platform"),
        "Python": environment.get("python"),
        **mapping(environment.get("packages")),
    }
    return [(str(name), str(value)) for name, value in shown.items() if value is not None] if environment else []


def _commands(folder: Path, recipe: Mapping[str, Any], environment: Mapping[str, Any]) -> list[Command]:
    place = shlex.quote(str(folder))
    stage = recipe.get("stage", "pretrain")
    again = shlex.quote(f"{folder}-again")
    commands = []
    if words := items(environment.get("command")):
        program = "openmae" if Path(str(words[0])).name in ("openmae", "__main__.py", "cli.py") else str(words[0])
        commands.append(Command(what="what was run", text=shlex.join([program, *map(str, words[1:])])))
    commands.append(
        Command(
            what="the same run again, into a new folder",
            text=f"openmae {stage} --recipe-file {place}/recipe.yaml --out {again}",
        )
    )
    if stage == "pretrain":
        images = shlex.join(places_of(recipe) or ["LABELLED"])
        commands += [
            Command(what="how good its features are", text=f"openmae knn --weights {place} --data {images}"),
            Command(
                what="the same for its untrained twin",
                text=f"openmae knn --weights {place} --data {images} --untrained",
            ),
        ]
    commands.append(Command(what="this report", text=f"openmae report {place}"))
    return commands
