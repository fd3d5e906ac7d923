"""When checkpoints are due, and writing them beside the training."""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from openmae.checkpoints.checkpoint import Checkpoint, Damaged, GivenUp
from openmae.checkpoints.save_mode import SaveMode
from openmae.checkpoints.writing import write_checkpoint
from openmae.errors import UserError
from openmae.recipes.values import Every
from openmae.reporter import say
from openmae.training.runs import Run

SECONDS_TO_RETRY = 60.0
# Steps of Linux's niceness. Where writing and training compete for a processor, writing gets a tenth of it. With 19 a
# checkpoint would take minutes, and a kill meanwhile falls back to the one before.
NICER = 10
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EROFS: "the file system has become read-only: look at the system's log",
    errno.EIO: "the disk is failing: look at the system's log",
}


class Saver:
    """Writes the checkpoints of one run, one at a time; `SaveMode` says how.

    A disk that refuses a checkpoint in the background does not end the run.

    Args:
        run: whose checkpoints they are.
        every: how often one is due.
        keep: how many stay on the disk.
        metadata: of the files of weights.
        asked: set when the run is asked to stop; what is being written in the background is given up then.
    """

    def __init__(
        self, run: Run, every: Every, *, keep: int, metadata: Mapping[str, str], asked: threading.Event
    ) -> None:
        self._asked = asked
        self._run, self._every, self._keep, self._metadata = run, every, keep, metadata
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_yield_to_the_training)
        self._pending: Future[None] | None = None
        self._next = self._from_now()
        self._failed = False
        self.saved: int | None = None
        """The step of the run's newest checkpoint."""

    def due(self, step: int, steps_per_epoch: int) -> bool:
        """Whether a checkpoint should be written after `step` steps."""
        if self._failed or self._every.unit == "min":
            # The clock asks for no other checkpoint while one is being written: a slow disk would stop the training.
            return time.monotonic() >= self._next and not self._busy()
        steps = self._every.number * (steps_per_epoch if self._every.unit == "epochs" else 1)
        return step % max(1, round(steps)) == 0

    def save(self, checkpoint: Checkpoint, mode: SaveMode) -> None:
        """Write the checkpoint, whose tensors must not change meanwhile; in the background return at once.

        Raises:
            UserError: when it could not be written, unless in the background; says why and what to do.
        """
        self.wait()
        self._next = self._from_now()
        if mode is SaveMode.BACKGROUND:
            self._pending = self._thread.submit(self._write, checkpoint, mode, self._asked.is_set)
            return
        try:
            self._write(checkpoint, mode)
        except (OSError, Damaged) as error:
            raise UserError(f"cannot save step {checkpoint.step}: {_reason(error)}; {_remedy(error)}") from error

    def wait(self) -> None:
        """Return once nothing is being written."""
        if self._pending is not None:
            self._pending.exception()
        self._busy()

    def give_up(self) -> None:
        """Give up what is being written in the background: some process of the run was asked to stop."""
        self._asked.set()

    def forget(self) -> None:
        """Prepare for going back: steps that have been saved will be made, and saved, again."""
        self.wait()
        self.saved = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the checkpoint that is being written."""
        self.wait()
        self._thread.shutdown()

    def _busy(self) -> bool:
        """Whether a checkpoint is being written; reports one that has failed."""
        if self._pending is None or not self._pending.done():
            return self._pending is not None
        pending, self._pending = self._pending, None
        error = pending.exception()
        self._failed = error is not None and not isinstance(error, GivenUp)
        if isinstance(error, OSError | Damaged):
            self._next = time.monotonic() + SECONDS_TO_RETRY
            say(
                f"a checkpoint could not be saved ({_reason(error)}); the run goes on and will try again in a minute: "
                f"{_remedy(error)}"
            )
        elif self._failed and error is not None:
            raise error
        return False

    def _write(self, checkpoint: Checkpoint, mode: SaveMode, given_up: Callable[[], bool] = lambda: False) -> None:
        self._run.sync()  # after a power cut no checkpoint may be of a step that the log has lost
        write_checkpoint(
            self._run.checkpoints,
            checkpoint,
            metadata=self._metadata,
            keep=self._keep,
            mode=mode,
            given_up=given_up,
        )
        self.saved = checkpoint.step

    def _from_now(self) -> float:
        return time.monotonic() + 60 * (self._every.number if self._every.unit == "min" else 0)


def _yield_to_the_training() -> None:
    """Lower the priority of this thread; only Linux has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where a sandbox forbids it
            this = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + NICER)  # 19 is the most


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _remedy(error: Exception) -> str:
    return REMEDIES.get(getattr(error, "errno", None) or 0, "look at the disk that holds the run folder")
