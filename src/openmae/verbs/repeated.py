"""Flags that are given more than once: the last one would win without a word, so that is an error."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from openmae.errors import WrongUsage
from openmae.recipes import Recipe
from openmae.recipes.conversion import flag
from openmae.recipes.recipe import declarations

TIMES = {2: "twice"}


def require_once(words: Sequence[str], parameters: Sequence[inspect.Parameter]) -> None:
    """Raise WrongUsage when a flag is given more than once, under any of its names, and may not be."""
    names = dict(_names(parameters))
    given: dict[str, list[str]] = {}
    for name, value in _given(words, names):
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1:
            raise WrongUsage(
                f"{name} is given {TIMES.get(len(values), f'{len(values)} times')} ({', '.join(values)}); give it once"
            )


def is_given(name: str, words: Sequence[str]) -> bool:
    """Whether the words set the flag of this parameter."""
    return any(True for _ in _given(words, {flag(name): flag(name), flag(f"no_{name}"): flag(name)}))


def _names(parameters: Sequence[inspect.Parameter]) -> Iterator[tuple[str, str]]:
    """Every name of a flag, and its usual name."""
    for parameter in parameters:
        for field, annotation in _fields(parameter):
            markers = get_args(annotation)[1:]
            aliases = [alias for marker in markers for alias in getattr(marker, "aliases", None) or ()]
            for name in (flag(field), flag(f"no_{field}"), *aliases):
                yield name, flag(field)


def _fields(parameter: inspect.Parameter) -> Iterator[tuple[str, Any]]:
    """The parameter itself; of a recipe its fields, which are flags of their own."""
    kind = next(iter(get_args(parameter.annotation)), parameter.annotation)
    if isinstance(kind, type) and issubclass(kind, Recipe):
        yield from declarations(kind).items()
    else:
        yield parameter.name, parameter.annotation


def _given(words: Sequence[str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The flags among the words by their usual names, each with its value as the user wrote it."""
    for place, word in enumerate(words):
        if word == "--":
            return
        name, equals, value = word.partition("=")
        # tyro takes underscores in place of hyphens.
        name = name.replace("_", "-") if name.startswith("--") else name
        if name not in names:
            continue
        following: list[str] = []
        for later in words[place + 1 :] if not equals else ():
            if later.startswith("-") and not _is_number(later):
                break
            following.append(later)
        yield names[name], value or " ".join(following) or name


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
