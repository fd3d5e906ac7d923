"""Log lines: losses and speeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openmae.recipes import Recipe
from openmae.terminal.training_view import TrainingView
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.runs import Run
from openmae.training.state import TrainState


@dataclass
class Meter:
    """The steps that this process has made since the last log line."""

    images: int = 0
    skipped: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, outcome: Outcome, *, images: int) -> None:
        """Count a step over so many images."""
        self.images += images
        self.skipped += outcome.skipped
        self.seconds += outcome.seconds
        self.waited += outcome.waited

    def figures(self, losses: Sequence[float]) -> dict[str, float]:
        """The mean of these losses, which are of steps that were not skipped, and speeds."""
        return {
            **({"loss": math.fsum(losses) / len(losses)} if losses else {}),
            "images_per_second": round(self.images / self.seconds, 1),
            "waiting_for_data": round(self.waited / self.seconds, 4),
            **({"skipped_steps": self.skipped} if self.skipped else {}),
        }


class Progress(Observer):
    """Logs a line every `log_every` steps and after the last, and tells the view of each step."""

    def __init__(self, run: Run, recipe: Recipe, view: TrainingView) -> None:
        self._run, self._recipe, self._view = run, recipe, view
        self._meter = Meter()

    def started(self, state: TrainState) -> None:
        """Drop the log lines of later steps, which are about to be made again."""
        self._run.rewind(state.step)
        self._meter = Meter()

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        self._view.moved(state.step)
        self._meter.add(outcome, images=self._recipe.batch_size)
        if state.finished or state.step % self._recipe.log_every == 0:
            self._log(state, outcome)
            self._meter = Meter()
            state.pending_losses = []

    def _log(self, state: TrainState, outcome: Outcome) -> None:
        recipe, steps_per_epoch = self._recipe, state.schedule.steps_per_epoch
        figures: dict[str, float] = {
            "epoch": round(state.step / steps_per_epoch, 4),
            "samples": state.step * recipe.batch_size,
            **self._meter.figures(state.pending_losses),
            "lr": outcome.learning_rate,
        }
        if outcome.gradient_norm is not None:
            figures["gradient_norm"] = outcome.gradient_norm
        self._run.log(state.step, **figures)
