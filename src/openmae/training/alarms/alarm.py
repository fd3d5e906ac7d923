"""What an alarm is, and what its rules know of a run beside the lines that it logged."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

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

MOST_LINES = 1000
"""The rules look at no more than so many of the newest lines of training: a long run pays no more for them than a short
one."""

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


class History:
    """The lines of a run so far, told apart by what they are of.

    Args:
        lines: in their order.
    """

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.trained: deque[Line] = deque(maxlen=MOST_LINES)
        """The newest of those that Progress logged: loss, rate, speed."""
        self.quality: list[Line] = []
        """Those of the quality of the network: at most some hundred in a run."""
        self.lines = 0
        """How many there were, of any kind."""
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """One more line."""
        self.lines += 1
        if any(name.startswith("quality/") for name in line):
            self.quality.append(line)
        elif "epoch" in line:
            self.trained.append(line)

    @property
    def held_out(self) -> list[Line]:
        """Those lines of quality that have the loss on images that nothing is trained on."""
        return [line for line in self.quality if line.get("quality/held_out") == 1 and "quality/loss" in line]

    def newest(self, count: int) -> list[Line]:
        """The newest lines of training that have a loss (one in which every step was skipped has none)."""
        return self.series("loss", count)

    def series(self, name: str, count: int = MOST_LINES) -> list[Line]:
        """The newest lines of training that have this figure."""
        found = list(islice((line for line in reversed(self.trained) if name in line), count))
        return found[::-1]


Rule = Callable[[History, Facts], str | None]
"""The history of a run and its facts, to a message; None while all is well."""
