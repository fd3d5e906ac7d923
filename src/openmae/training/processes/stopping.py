"""Requests to stop: Ctrl-C, SIGTERM, and the signal that Slurm sends ahead of a time limit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 75  # exit code, the system's EX_TEMPFAIL: try again later, here to continue
# In the log of a run: how its last lines begin where it did not come to its end.
ASKED_TO_STOP, FAILED = "asked to stop: ", "failed: "
# Not every system has all of them.
REQUESTS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if name in signal.Signals.__members__
)


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that is set when the process is asked to stop. A second Ctrl-C stops it at once.

    Only the main thread of a process receives signals; in another thread the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, previous[signal.SIGINT])
        asked.set()

    previous: dict[signal.Signals, Any] = {which: signal.signal(which, handle) for which in REQUESTS}
    try:
        yield asked
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)
