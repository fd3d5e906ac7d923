"""When checkpoints are written, and writing them beside the training."""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from openmae.checkpoints.checkpoint import Checkpoint, Damaged, GivenUp
from openmae.checkpoints.writing import write_checkpoint
from openmae.errors import UserError
from openmae.recipes.values import Every
from openmae.reporter import say
from openmae.training.runs import Run

SECONDS_TO_RETRY = 60.0
# How much less of a processor that both want writing gets than training, in steps of Linux's niceness: a tenth. With 19
# it would take minutes, in which a kill falls back to the checkpoint before.
NICER = 10
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EROFS: "the file system has become read-only: look at the system's log",
    errno.EIO: "the disk is failing: look at the system's log",
}


class Saver:
    """Writes the checkpoints of one run, one at a time, in a thread of its own unless the run waits for it.

    A disk that refuses does not end a run: the user is told, and another save is tried a minute later.
    """

    def __init__(
        self, run: Run, every: Every, *, keep: int, metadata: Mapping[str, str], asked: threading.Event
    ) -> None:
        """`asked`: to stop, which makes what is being written beside the training needless: a later step follows."""
        self._asked = asked
        self._run, self._every, self._keep, self._metadata = run, every, keep, metadata
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_let_the_training_pass)
        self._pending: Future[None] | None = None
        self._next = self._from_now()
        self._failed = False
        self.saved: int | None = None

    def due(self, done: int, steps_per_epoch: int) -> bool:
        """Whether a checkpoint should be written after step `done`."""
        if self._failed or self._every.unit == "min":
            # While one is being written time does not ask for the next, or a slow disk would stop the training.
            return time.monotonic() >= self._next and not self._busy()
        steps = self._every.number * (steps_per_epoch if self._every.unit == "epochs" else 1)
        return done % max(1, round(steps)) == 0

    def save(self, step: int, checkpoint: Checkpoint, *, must_work: bool, in_a_hurry: bool = False) -> None:
        """Write the checkpoint, whose tensors nobody else may change.

        Args:
            step: how many steps it has seen.
            checkpoint: a copy of everything.
            must_work: wait until it is written.
            in_a_hurry: with `must_work`; as `write_checkpoint` explains.

        Raises:
            UserError: with `must_work`, when it could not be written; says why and what to do.
        """
        self.wait()
        self._next = self._from_now()
        if not must_work:
            self._pending = self._thread.submit(self._write, step, checkpoint, given_up=self._asked.is_set)
            return
        try:
            self._write(step, checkpoint, in_a_hurry=in_a_hurry)
        except (OSError, Damaged) as error:
            raise UserError(f"cannot save step {step}: {_reason(error)}; {_remedy(error)}") from error

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._pending is not None:
            self._pending.exception()
        self._busy()

    def forget(self) -> None:
        """The run goes back: steps that have been saved will be made, and saved, again."""
        self.wait()
        self.saved = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let what is being written be finished."""
        self.wait()
        self._thread.shutdown()

    def _busy(self) -> bool:
        """Whether a checkpoint is being written; tells the user when one has failed."""
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

    def _write(self, step: int, checkpoint: Checkpoint, **options: Any) -> None:
        self._run.sync()  # a checkpoint never knows of steps that a power cut takes out of the log
        write_checkpoint(self._run.checkpoints, step, checkpoint, metadata=self._metadata, keep=self._keep, **options)
        self.saved = step

    def _from_now(self) -> float:
        return time.monotonic() + 60 * (self._every.number if self._every.unit == "min" else 0)


def _let_the_training_pass() -> None:
    """Have this thread run where the processors have little else to do; only Linux has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where a sandbox forbids it
            this = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + NICER)  # 19 is the most


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _remedy(error: Exception) -> str:
    return REMEDIES.get(getattr(error, "errno", None) or 0, "look at the disk that holds the run folder")
