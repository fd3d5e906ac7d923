"""A request to stop: the state is saved after the step that is being made, and the run ends."""

import threading

from lightning_fabric import Fabric

from openmae.checkpoints.save_mode import SaveMode
from openmae.training.observers.checkpointing import Checkpoints
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.processes.stopping import Interrupted
from openmae.training.state import TrainState


class Stopping(Observer):
    """Ends a run that was asked to stop, unless it has just made its last step.

    Args:
        fabric: the processes.
        asked: set when this process is asked to stop.
        checkpoints: saves the state.
    """

    def __init__(self, fabric: Fabric, asked: threading.Event, checkpoints: Checkpoints) -> None:
        self._fabric, self._asked, self._checkpoints = fabric, asked, checkpoints

    def wants(self, state: TrainState) -> bool:
        """When this process was asked: then all of them stop after the same step."""
        return self._asked.is_set()

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """Save and end.

        Raises:
            Interrupted: in every process.
            UserError: when the state could not be saved.
        """
        # A process that is alone also obeys a request that came after the exchange, rather than a whole step later.
        stop = wanted or (self._fabric.world_size == 1 and self._asked.is_set())
        if stop and not state.finished:
            self._checkpoints.save(state, SaveMode.BEFORE_EXIT)
            raise Interrupted(f"stopped after step {state.step} of {state.schedule.total_steps}")
