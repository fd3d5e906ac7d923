"""Values of a configuration file that a stranger may have written: read, or refused in a sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmae.errors import UserError

LARGEST = 1e6  # of a mean or a standard deviation


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
