"""Evaluations between the epochs."""

import threading

from lightning_fabric import Fabric

from openmae.checkpoints.save_mode import SaveMode
from openmae.training.observers.checkpointing import Checkpoints
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.processes.sharding import unsharded
from openmae.training.processes.stopping import Interrupted
from openmae.training.runs import Run
from openmae.training.spec import TrainSpec
from openmae.training.state import TrainState


class Evaluating(Observer):
    """Evaluates every `eval_every` epochs and after the last step, and logs the figures.

    Args:
        fabric: the processes, which evaluate together.
        spec: has the evaluation.
        run: where its figures are logged.
        asked: set when this process is asked to stop; the evaluation is given up then.
        checkpoints: saves the state before the exit.
    """

    def __init__(
        self, fabric: Fabric, spec: TrainSpec, run: Run, asked: threading.Event, checkpoints: Checkpoints
    ) -> None:
        self._fabric, self._run, self._asked, self._checkpoints = fabric, run, asked, checkpoints
        self._evaluate = spec.evaluate
        self._every: int = getattr(spec.recipe, "eval_every", 1)

    def started(self, state: TrainState) -> None:
        """Evaluate if the run was stopped before or in the evaluation that was due after this step.

        A run that was stopped after its last evaluation evaluates once more, for what the log does not hold.

        Raises:
            Interrupted: when it is asked to stop again.
        """
        if not state.step or not self._due(state):
            return
        logged = self._fabric.broadcast(self._run.was_evaluated(state.step))
        if state.finished or not logged:
            self._evaluate_or_exit(state, log=not logged)

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """Evaluate if it is time to.

        Raises:
            Interrupted: when the run is asked to stop meanwhile, once the state is saved.
        """
        if self._due(state):
            self._evaluate_or_exit(state)

    def _due(self, state: TrainState) -> bool:
        return self._evaluate is not None and state.schedule.ends_epochs(state.step, self._every)

    def _evaluate_or_exit(self, state: TrainState, *, log: bool = True) -> None:
        assert self._evaluate is not None
        with unsharded(state.trained):
            figures = self._evaluate(state.trained, self._asked.is_set)
        state.wrapped.train()
        if figures is None:
            self._checkpoints.save(state, SaveMode.BEFORE_EXIT)
            raise Interrupted(f"stopped during the evaluation after step {state.step} of {state.schedule.total_steps}")
        if log:
            self._run.log(state.step, **figures)
