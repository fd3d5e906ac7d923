"""Alarms with advice, while the training goes on."""

from collections.abc import Mapping
from dataclasses import replace

from openmae.checkpoints.names import ALARMS
from openmae.core.model import MaskedAutoencoder
from openmae.data.batches import Batch
from openmae.data.workers import spare_processors
from openmae.recipes import PretrainRecipe
from openmae.reporter import say
from openmae.training.alarms.alarm import Facts, Kind
from openmae.training.alarms.first_images import Collected, look
from openmae.training.alarms.images import alarms_of
from openmae.training.alarms.rules import judge
from openmae.training.alarms.standing import Standing
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.processes.devices import choose_workers
from openmae.training.runs import Run
from openmae.training.schedules import Schedule
from openmae.training.spec import TrainSpec
from openmae.training.state import TrainState


class Alarms(Observer):
    """Judges the first images and every line that is logged, and says what is wrong: once, until it has changed.

    The first of several processes judges and speaks, from the images that it has received itself.

    Args:
        spec: has the images and the network.
        run: has the lines, and lists the alarms.
    """

    def __init__(self, spec: TrainSpec, run: Run) -> None:
        self._spec, self._run = spec, run
        self._standing = Standing()
        self._collected: Collected | None = None
        self._facts: Facts | None = None
        self._judged = 0

    def started(self, state: TrainState) -> None:
        """Alarms of before stand; the first images are looked at again, for the loss that they make trivial."""
        if self._run.writes:
            self._facts = facts_of(self._spec, state.schedule)
            self._standing = Standing(record["kind"] for record in self._run.records(ALARMS))
            self._collected = Collected()
            self._judged = self._run.history.lines

    def received(self, batch: Batch) -> None:
        """Keep the first images."""
        if self._collected is not None and not self._collected.full:
            self._collected.add(batch)

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """Judge the lines that other observers have logged after this step."""
        if self._facts is None or self._run.history.lines == self._judged:
            return
        self._judged = self._run.history.lines
        if self._collected is not None:
            self._look(state, self._collected)
            self._collected = None
        self._raise(state, judge(self._run.history, self._facts))

    def _look(self, state: TrainState, collected: Collected) -> None:
        recipe, model = self._spec.recipe, self._spec.model
        pretrained = getattr(recipe, "weights", None) is not None
        autoencoder = model if isinstance(model, MaskedAutoencoder) else None
        found = look(
            collected,
            self._spec.dataset,
            mean=recipe.mean,
            std=recipe.std,
            geometry=None if autoencoder is None else autoencoder.geometry,
            normalised=autoencoder is not None and autoencoder.normalise_target,
        )
        if found is not None and self._facts is not None:
            self._facts = replace(self._facts, trivial=found.trivial)
            self._raise(state, alarms_of(found, statistics_matter=autoencoder is not None and not pretrained))

    def _raise(self, state: TrainState, messages: Mapping[Kind, str | None]) -> None:
        for alarm in self._standing.news(state.step, messages):
            self._run.alarm(alarm)
            say(f"alarm at step {alarm.step}: {alarm.message}")


def facts_of(spec: TrainSpec, schedule: Schedule) -> Facts:
    """What the rules know of a run before its first step."""
    recipe = spec.recipe
    return Facts(
        base_lr=recipe.base_lr,
        lr=recipe.lr,
        total_steps=schedule.total_steps,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        images=len(spec.dataset),
        workers=choose_workers(recipe),
        spare_processors=spare_processors(),
        held=spec.dataset.cache is not None,
        normalised=not isinstance(recipe, PretrainRecipe) or recipe.normalise_target,
    )
