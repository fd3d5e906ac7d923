"""Values from the notes of a file of weights, which a stranger may have written."""

from math import inf
from typing import Any


def texts(value: Any, count: int) -> tuple[str, ...]:
    """So many names.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("its names are no list of texts")
    if len(value) != count:
        raise ValueError(f"it names {len(value)} for {count} outputs")
    return tuple(value)


def number(value: Any, *, positive: bool = False) -> float:
    """A finite number.

    Raises:
        ValueError: for anything else.
    """
    if type(value) not in (int, float) or not (0 if positive else -inf) < value < inf:
        raise ValueError(f"{str(value)[:40]} is no number that fits")
    return float(value)
