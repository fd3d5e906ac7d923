"""Losses and gradients that are not finite: the step is skipped, the run goes back, or it ends."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from openmae.checkpoints.names import REWINDS
from openmae.data.batches import Batch
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.reporter import say
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.processes.devices import choose_precision
from openmae.training.processes.sharding import all_finite
from openmae.training.runs import Run
from openmae.training.state import TrainState

MOST_SKIPPED_IN_A_ROW = 3
MOST_REWINDS = 3


class Diverged(Exception):
    """The run must go back to its last checkpoint; the message says why."""


class Divergence(Observer):
    """Reports skipped steps, and counts how often the run has gone back; its folder remembers that."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._run, self._recipe = run, recipe
        self._rewinds = [int(record["to"]) for record in run.records(REWINDS)]

    @property
    def reshuffled(self) -> tuple[int, ...]:
        """The steps that the run has gone back to: from each of them on the images come in another order."""
        return tuple(sorted(self._rewinds))

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """Report a step that was skipped.

        Raises:
            Diverged: when it was the third in a row.
        """
        if outcome.problem is None:
            return
        say(f"step {state.step} was skipped: {outcome.problem}")
        if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise Diverged(
                f"{state.skipped_in_a_row} steps in a row up to step {state.step} were not finite ({outcome.problem})"
            )

    def go_back(self, reason: Diverged, *, to: int | None) -> None:
        """Record and report that the run goes back to step `to`.

        Raises:
            UserError: when there is no checkpoint to go back to, or the run has gone back three times before.
        """
        if to is None or len(self._rewinds) >= MOST_REWINDS:
            why = f"after going back {len(self._rewinds)} times" if to is not None else "and there is no checkpoint"
            raise UserError(f"{reason}, {why}; {self._advice()}")
        self._run.append(REWINDS, {"to": to, "reason": str(reason)})
        self._rewinds.append(to)
        say(f"{reason}: going back to step {to} and on from there with the images in another order")

    def _advice(self) -> str:
        steps = []
        if choose_precision(self._recipe) == "16-mixed":
            steps.append("use --precision bf16-mixed rather than fp16")
        if self._recipe.clip_norm is None:
            steps.append("set --clip-norm 1")
        steps.append(f"lower --base-lr (now {self._recipe.base_lr:g})")
        return ", or ".join(steps)


def what_is_not_finite(fabric: Fabric, model: nn.Module, batch: Batch, losses: Sequence[Tensor]) -> str:
    """Name the first tensor on the way from pixels to gradients that is not finite, on the first process that has one.

    Every process must call this together.
    """
    found = _first(model, batch, losses)
    if fabric.world_size > 1:
        everywhere = [""] * fabric.world_size
        torch.distributed.all_gather_object(everywhere, found)
        found = next((f"{what} on rank {rank}" for rank, what in enumerate(everywhere) if what), "")
    return found or "the norm of the gradient is not finite, though each of its parts is"


def _first(model: nn.Module, batch: Batch, losses: Sequence[Tensor]) -> str:
    for name, tensor in model.state_dict().items():
        if not all_finite([tensor]):
            return f"weights {name} are not finite"
    if batch.images.is_floating_point():
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            if bool(image.isinf().any()):  # NaN is no data, which normalisation fills
                return f"pixels of image {index} are not finite"
    bad_losses = [float(loss) for loss in losses if not all_finite([loss])]
    gradients = (name for name, p in model.named_parameters() if p.grad is not None and not all_finite([p.grad]))
    first = next(gradients, None)
    parts = [f"the loss is {bad_losses[0]}"] if bad_losses else []
    parts += [f"the gradient of {first} is not finite"] if first is not None else []
    return " and ".join(parts)
