"""Waiting for storage behind a network: a bounded time and a few tries, then an error that says so."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from openmae.errors import UserError, one_line

T = TypeVar("T")

# In all tries together. Drivers have time limits of their own, which add up to many minutes, and none for their bugs.
PATIENCE = 60.0
SLOWEST = 1e5  # bytes per second, for which a large file may take longer
PAUSES = (1.0, 4.0)  # seconds before the second and the third try
# How the drivers call a connection that breaks, beside Python's ConnectionError and TimeoutError: the names of classes,
# because most drivers are not installed.
BROKEN = frozenset(
    {
        "ClientConnectionError",  # aiohttp, for http and below s3 and gcs
        "ClientPayloadError",
        "ConnectionError",
        "HTTPClientError",  # botocore
        "IncompleteReadError",
        "ProtocolError",  # urllib3
        "ResponseStreamingError",
        "TimeoutError",
    }
)


class StorageLost(UserError):
    """The storage gives no answer. It says nothing about the file that was asked for, which may be in order."""


def wait_for(place: str, action: Callable[[], T], *, size: int = 0) -> T:
    """The result of `action`, which asks the storage at `place` for something of about `size` bytes.

    A driver may wait for ever, for its server or, in a forked process, for a thread that only the parent has. So a
    thread of its own calls it, and is given up when the time is over. A broken connection is tried again.

    Raises:
        StorageLost: when there was no answer in time, or the connection broke in each try.
        Exception: whatever `action` raises.
    """
    seconds = PATIENCE + size / SLOWEST
    until = time.monotonic() + seconds
    for pause in (*PAUSES, None):
        call = _Call(action)
        try:
            return call.result(until - time.monotonic())
        except _NoAnswerError:
            raise StorageLost(f"{place} has given no answer for {seconds:.0f} s; {_REMEDY}") from None
        except Exception as error:
            if not _is_broken(error):
                raise
            if pause is None or time.monotonic() + pause > until:
                raise StorageLost(f"the connection to {place} breaks ({_reason(error)}); {_REMEDY}") from error
        time.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")


_REMEDY = "check the network and the address, then run the same command again (a training continues where it was saved)"


class _NoAnswerError(Exception):
    """The time is over."""


class _Call(Generic[T]):
    """A call in a thread of its own, which ends with the process if it does not end by itself."""

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._ended = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="waits for storage", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._action()
        except BaseException as error:  # the caller raises it
            self._error = error
        self._ended.set()

    def result(self, seconds: float) -> T:
        if not self._ended.wait(max(0.0, seconds)):
            raise _NoAnswerError
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


def _is_broken(error: BaseException) -> bool:
    """Whether the connection is to blame, in the error or in what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, FileNotFoundError | PermissionError):
            return False
        if BROKEN & {kind.__name__ for kind in type(seen).__mro__}:
            return True
        seen = seen.__cause__
    return False


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
