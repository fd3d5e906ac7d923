"""The moments of a training at which other code sees it, and the outcome of a step.

Everything that is no part of a step's mathematics is an observer: an object that `train` calls at the moments below.
`trainer.py` lists the observers in the order in which they are called, and the order matters:

1. `BadImages` ends the run when too many images are unreadable, before anything else is made of the step.
2. `Divergence` reports a skipped step, and sends the run back to a checkpoint after three in a row. A step that the run
   goes back over is not logged.
3. `Progress` logs the step. It comes before saving: a checkpoint never knows of a step that is not in the log.
4. `Stopping` saves and ends the run after a request to stop, so that no second save of the same step follows.
5. `Checkpoints` saves when a checkpoint is due.
6. `Evaluating` comes last. It takes longest, and a crash during it costs no step: the step is saved or will be
   repeated, and the evaluation is done when the run continues.

To add one, such as the quality of the features while they are learned, write a class that derives from `Observer` and
put it into that list, after `Checkpoints`. Work that every process must do together, at a time that only one of them
knows, is asked for in `wants`: the answers travel with the loss in the one exchange of each step, so that they cost
nothing, and `stepped` receives the common answer in every process. Its cost in each step must be microseconds, it must
not wait for the device, and it must leave torch's generators as they are; the step seeds them anew.
"""

from typing import NamedTuple

from openmae.data.batches import Batch
from openmae.training.state import TrainState


class Outcome(NamedTuple):
    """The result of one step, the same in every process but for the times."""

    learning_rate: float
    """The highest of all parameter groups."""
    gradient_norm: float | None
    """Before clipping; None when the step was skipped."""
    problem: str | None
    """What was not finite; None also for a step that was skipped only because fp16's scale was too large."""
    wanted: tuple[bool, ...]
    """For each observer, in their order: whether any process wants it to act."""
    seconds: float
    """How long the step took."""
    waited: float
    """How many of these seconds it waited for images."""

    @property
    def skipped(self) -> bool:
        """Whether the weights stayed as they were."""
        return self.gradient_norm is None


class Observer:
    """Sees a training at four moments, at each of which it may do nothing."""

    def started(self, state: TrainState) -> None:
        """Before the first step: of a new run, of a continued one, or after going back to a checkpoint."""

    def received(self, batch: Batch) -> None:
        """A micro-batch of this process is about to be trained on."""

    def wants(self, state: TrainState) -> bool:
        """Whether this process has a reason for all of them to act after the step that is about to be made.

        `state.step` counts that step already.
        """
        return False

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """After a step; `wanted` in every process when any process wants it."""
