"""Markers beside the type of a field or a parameter: which numbers it takes, and whether it changes results.

epochs: Annotated[int, at_least(1)]
workers: Annotated[int | None, NOT_NEGATIVE, NO_EFFECT_ON_RESULTS] = None
"""

import math
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field takes. Of a tuple, every number must lie in it."""

    words: str
    """How a message says it: "--epochs must WORDS"."""
    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False
    """Whether `low` itself is excluded."""
    without_high: bool = False
    """Whether `high` itself is excluded."""
    hint: str = ""
    """Added to the end of the message."""

    def __contains__(self, number: float) -> bool:
        above = self.low < number if self.without_low else self.low <= number
        below = number < self.high if self.without_high else number <= self.high
        return above and below


class Effect(Enum):
    """How a field acts on the results of a run. Only a field that leaves them as they are is marked."""

    NONE = "none"


NO_EFFECT_ON_RESULTS = Effect.NONE
"""A run may be continued with another value of this field."""

POSITIVE = Range(words="be greater than 0", low=0, without_low=True)
NOT_NEGATIVE = Range(words="be 0 or greater", low=0)
SHARE = Range(words="lie in 0 … 1", low=0, high=1)
PERCENT = Range(words="lie in 0 … 100", low=0, high=100)
PORT = Range(words="lie in 1 … 65535", low=1, high=65535)
BETWEEN_0_AND_1 = Range(words="lie between 0 and 1", low=0, high=1, without_low=True, without_high=True)


def at_least(low: int) -> Range:
    return Range(words=f"be at least {low}", low=low)


def at_most(high: int) -> Range:
    return Range(words=f"be at most {high}", high=high)
