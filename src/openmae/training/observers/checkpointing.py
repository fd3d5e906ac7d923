"""Checkpoints of a run: the state is saved when it is time to, and restored from the newest that is undamaged."""

import torch
from lightning_fabric import Fabric
from torch import Tensor

from openmae.checkpoints.checkpoint import Checkpoint, directory_name, step_of
from openmae.checkpoints.reading import newest_verified, read_checkpoint
from openmae.checkpoints.save_mode import SaveMode
from openmae.errors import UserError
from openmae.reporter import say
from openmae.training.observers.divergence import Diverged
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.observers.saving import Saver
from openmae.training.runs import Run
from openmae.training.state import TrainState


class Checkpoints(Observer):
    """Saves and restores the state. The first process writes, and decides which checkpoint all of them read.

    Args:
        fabric: the processes.
        run: whose folder holds the checkpoints.
        saver: writes them.
    """

    def __init__(self, fabric: Fabric, run: Run, saver: Saver) -> None:
        self._fabric, self._run, self._saver = fabric, run, saver
        self._restored = False

    def restore(self, state: TrainState) -> None:
        """Restore the newest undamaged checkpoint, if there is one.

        Raises:
            UserError: when a process cannot read it, or when it is of another network.
        """
        step = self.newest_step()
        self._restored = step is not None
        if step is None:
            return
        path = self._run.checkpoints / directory_name(step)
        try:
            saved = read_checkpoint(path)
        except OSError as error:
            raise UserError(
                f"rank {self._fabric.global_rank} cannot read {path} ({error.strerror}); put the run folder where "
                "every machine sees it"
            ) from error
        state.restore(saved)
        self._saver.saved = step
        _warn_of_changes(state, saved)
        if step:
            say(f"continuing from step {step} ({path})")

    def newest_step(self) -> int | None:
        """The step of the newest undamaged checkpoint, as the first process finds it; None when there is none."""
        self._saver.forget()
        path = newest_verified(self._run.checkpoints) if self._fabric.is_global_zero else None
        step = self._fabric.broadcast(step_of(path) if path is not None else -1)
        return None if step < 0 else step

    def started(self, state: TrainState) -> None:
        """Save the first weights of a new run: it shows whether the disk takes checkpoints, and is one to go back to.

        Raises:
            UserError: when the disk takes none.
        """
        if not self._restored:
            self.save(state, SaveMode.WAITED)

    def wants(self, state: TrainState) -> bool:
        """When a checkpoint is due by the first process's clock."""
        due = state.finished or self._saver.due(state.step, state.schedule.steps_per_epoch)
        return due and self._fabric.is_global_zero

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        if wanted:
            self.save(state, SaveMode.WAITED if state.finished else SaveMode.BACKGROUND)

    def save(self, state: TrainState, mode: SaveMode) -> None:
        """Save the state, unless this step is saved already; every process must call this together.

        Raises:
            Diverged: when a tensor is not finite on any process: such a state is never written.
            UserError: when it could not be written, unless in the background.
        """
        self._require_finite(state)
        if mode is SaveMode.BEFORE_EXIT:
            self._saver.give_up()
        self._saver.wait()  # two copies at a time may be more than there is memory for
        if self._fabric.broadcast(self._saver.saved == state.step):
            return
        writes = self._fabric.is_global_zero
        checkpoint = state.capture(keep=writes, copy=mode is SaveMode.BACKGROUND)
        if writes:
            self._saver.save(checkpoint, mode)

    def _require_finite(self, state: TrainState) -> None:
        bad = torch.tensor(0.0 if state.finite() else 1.0, device=self._fabric.device)
        bad_processes = self._fabric.all_reduce(bad, reduce_op="sum")
        assert isinstance(bad_processes, Tensor)
        if bad_processes.item():
            raise Diverged(f"weights or optimizer state are not finite after step {state.step}")


def _warn_of_changes(state: TrainState, saved: Checkpoint) -> None:
    """Tell the user what has changed since the checkpoint that decides the last bits of a loss."""
    now = state.numerics
    changed = [f"{name} {was} then, {now[name]} now" for name, was in saved.numerics.items() if was != now[name]]
    if changed:
        say(f"later losses may differ in their last digits from an uninterrupted run's: {', '.join(changed)}")
