"""The moments of a training at which other code sees it, and the outcome of a step.

Everything around the mathematics of a step is an observer: an object that `train` calls at the moments below. `train`
lists the observers in the order in which they are called, and the order matters:

1. `BadImages` ends the run when too many images are unreadable.
2. `Divergence` reports a skipped step, and sends the run back to a checkpoint after three in a row, before the third is
   logged or saved.
3. `Progress` logs the step. It comes before all that save: a checkpoint never knows of a step that the log does not.
4. `Stopping` saves and ends the run after a request to stop. It comes before `Checkpoints`, so that the step is saved
   once, in the way that takes least time.
5. `Checkpoints` saves when a checkpoint is due.
6. `Evaluating` takes longest and comes late: a step that was to be saved is safe by then. An evaluation that did not
   come to its end is made up for when the run continues.
7. Those that a higher floor hands to `train`, such as `evaluation.quality`, which looks at the network as a user would.
8. `Alarms` judges what all others have logged after the step.

To add one: write a class that derives from `Observer`, in a file of its own, and put it into the list in `train`, after
`Checkpoints`, or hand it to `run_pretraining` if it needs a higher floor. If all processes must work together at a time
that only one of them knows, return True from `wants` in that one. The answers travel with the loss, in the one exchange
of each step, and `stepped` receives the common one in every process. An observer must cost microseconds in a step in
which it does nothing, and must not wait for the device then. One that calls the network puts it back into training
mode. It may draw random numbers, because each step seeds torch anew.
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
    """Names the tensor that was not finite; None also if only fp16's scale was too large."""
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
    """Sees a training at four moments, and does nothing at any of them unless a method is overridden."""

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
        """After each step, the last one too (`state.finished`); `wanted` in every process when any process wants it."""
