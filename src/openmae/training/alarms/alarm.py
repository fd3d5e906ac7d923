"""What an alarm is, and what its rules know of a run beside the lines that it logged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from openmae.recipes.recipe import Stage

Kind = Literal[
    "constant",
    "duplicates",
    "statistics",
    "stuck",
    "leak",
    "spike",
    "gradient",
    "starved",
    "overfitting",
    "rank",
    "settled",
]
"""What an alarm is about; docs/curves.md has a row for each."""

Line = Mapping[str, float]
"""One line of metrics.jsonl."""


class Alarm(NamedTuple):
    """The step at which something was noticed, what it is about, and one sentence with a number and a remedy."""

    step: int
    kind: Kind
    message: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules know of a run beside its lines.

    Args:
        stage: what is trained.
        base_lr: as the recipe has it, for the advice.
        lr: the highest rate of the run.
        total_steps: of the whole run.
        epochs: of the whole run.
        batch_size: images per step.
        images: how many different ones there are.
        workers: loader processes of each training process.
        spare_processors: how many loader processes of each training process this machine has processors for.
        held: decoded images are kept in memory, so that only the first epoch decodes.
        normalised: the targets are normalised per patch.
        trivial: the loss of predicting the mean of all images at each place; None where it is unknown or next to 0.
    """

    stage: Stage
    base_lr: float
    lr: float
    total_steps: int
    epochs: int
    batch_size: int
    images: int
    workers: int = 1
    spare_processors: int = 1
    held: bool = False
    normalised: bool = True
    trivial: float | None = None


Rule = Callable[[Sequence[Line], Facts], str | None]
"""Lines of a run so far, in their order, and its facts, to a message; None while all is well."""


def trained(lines: Sequence[Line]) -> list[Line]:
    """The lines that Progress logged: those of evaluations and of quality have no loss of training."""
    return [line for line in lines if "loss" in line and "epoch" in line]


def median(values: Sequence[float]) -> float:
    return float(np.median(np.asarray(values)))
