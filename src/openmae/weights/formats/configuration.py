"""Values of a configuration file that a stranger may have written: read, or refused in a sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmae.errors import UserError

LARGEST = 1e6  # of a mean or a standard deviation
MADE_UP = "LABEL_{}"  # by transformers, for a class without a name


def positive(config: Mapping[str, Any], name: str, file: Path) -> int | None:
    """A whole number above 0 from a configuration; None where it is silent.

    Raises:
        UserError: for anything else.
    """
    value = config.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 2**20:
        raise UserError(f"{name} is {str(value)[:40]!r} in the configuration of {file}; correct it to a number above 0")
    return value


def numbers(config: Mapping[str, Any], name: str, file: Path) -> tuple[float, ...] | None:
    """Numbers from a configuration, one for each channel; None where it is silent.

    Raises:
        UserError: for anything else.
    """
    value = config.get(name)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(
        type(item) in (int, float) and abs(item) < LARGEST for item in value
    ):
        raise UserError(f"{name} is {str(value)[:40]!r} in the configuration of {file}; correct it to numbers")
    return tuple(float(item) for item in value)


def names(value: Any, count: int) -> tuple[str, ...] | None:
    """Names of so many classes from a configuration: a list, or a mapping from numbers; None where there are none.

    Names that are no text, or too few or too many, name nothing, and neither do those that transformers makes up.
    """
    if isinstance(value, Mapping):
        value = [value.get(str(number), value.get(number)) for number in range(len(value))]
    if not isinstance(value, list | tuple) or len(value) != count or not all(isinstance(name, str) for name in value):
        return None
    return None if all(name == MADE_UP.format(number) for number, name in enumerate(value)) else tuple(value)


def sides(value: Any, name: str, file: Path) -> tuple[int, int] | None:
    """Height and width from a configuration: 224, or [224, 448]; None where it is silent.

    Raises:
        UserError: for anything else.
    """
    if value is None:
        return None
    pair = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(pair) != 2 or not all(type(side) is int and 0 < side <= 2**20 for side in pair):
        raise UserError(f"{name} is {str(value)[:40]!r} in the configuration of {file}; correct it to height and width")
    return pair[0], pair[1]
