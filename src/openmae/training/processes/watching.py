"""Processes that watch each other: when one of them dies the others end, rather than wait for it for ever."""

import contextlib
import multiprocessing
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import torch
from lightning_fabric import Fabric
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from openmae.reporter import current
from openmae.training.processes.launching import ANNOUNCED, LOST, SUPERVISOR
from openmae.training.processes.stopping import Interrupted

BEAT = 1.0
# When a collective operation fails, a process that has been silent for so many seconds is the cause.
SILENT_WHEN_OTHERS_FAIL = 5.0
PATIENCE_OF_STORE = 5.0
POLL = 0.01


class Watch:
    """Within its block this process gives signs of life, and checks those of the others.

    The process ends, and names the cause, when another process of the run has been silent for `timeout` seconds
    (killed, stopped, or its machine gone) or has ended with an error, or when a loader process of its own has been
    stopped. A thread does this: the main thread may be waiting in a collective operation, which nothing interrupts.

    Args:
        fabric: launched.
        timeout: seconds.
    """

    def __init__(self, fabric: Fabric, timeout: float) -> None:
        self._rank = fabric.global_rank
        self._timeout, self._reporter = timeout, current()
        self._ended = threading.Event()
        self._store = _open_store(fabric) if fabric.world_size > 1 else None
        self._store_lock = threading.Lock()
        self._peers = {rank: _Peer(where) for rank, where in enumerate(_places(fabric)) if rank != self._rank}
        self._answered = time.monotonic()
        self._parent = os.getppid()
        # Two threads: when the process that keeps the store is stopped, one waits for an answer and the other notices.
        self._threads = [threading.Thread(target=self._check, daemon=True)]
        if self._store is not None:
            self._threads.append(threading.Thread(target=self._exchange, daemon=True))

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A collective operation usually fails because of another process. Out of memory is a failure of its own.
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            self._find_who_fell_silent()
        if error is not None and not isinstance(error, Interrupted) and self._peers:
            self._publish("failed", str(error) or type(error).__name__)
            error.add_note(ANNOUNCED)
            time.sleep(2 * BEAT)  # the others need time to read it: the store that rank 0 keeps ends with rank 0
        self._ended.set()
        # A thread that is inside the store when Python ends is cut off there, and the C++ library aborts the process.
        for thread in self._threads:
            thread.join(PATIENCE_OF_STORE + BEAT)
        if error is None or isinstance(error, Interrupted):
            self._part()

    def _part(self) -> None:
        """Let the store go after all have finished with it: rank 0 keeps it, and waits for the others."""
        self._publish("left", "")
        until = time.monotonic() + PATIENCE_OF_STORE
        while self._store is not None and self._rank == 0 and time.monotonic() < until:
            if self._store.check([f"left/{rank}" for rank in self._peers]):
                break
            time.sleep(POLL)

    def _exchange(self) -> None:
        """Publish signs of life and read those of the others, in the store that rank 0 keeps."""
        assert self._store is not None
        beats = 0
        while not self._ended.is_set():
            self._publish("alive", str(beats))
            beats += 1
            with self._store_lock, contextlib.suppress(RuntimeError):
                for rank, peer in self._peers.items():
                    if self._ended.is_set():
                        return
                    if self._store.check([f"failed/{rank}"]):
                        peer.failed = self._store.get(f"failed/{rank}").decode()
                    if self._store.check([f"alive/{rank}"]):
                        peer.receive(self._store.get(f"alive/{rank}"))
                self._answered = time.monotonic()
            self._ended.wait(BEAT)

    def _check(self) -> None:
        """End this process when another one or a loader process of this one is lost."""
        stopped_since: dict[int, float] = {}
        woke = time.monotonic()
        while not self._ended.wait(BEAT):
            slept, woke = time.monotonic() - woke, time.monotonic()
            if slept > BEAT + self._timeout / 2:
                self._forgive_silence()
            self._end_if_lost(self._timeout)
            if SUPERVISOR in os.environ and os.getppid() != self._parent:
                self._end("the process that started this one has ended")
            stopped_since = {pid: stopped_since.get(pid, time.monotonic()) for pid in _stopped_children()}
            for pid, since in stopped_since.items():
                if time.monotonic() - since > self._timeout:
                    self._end(f"data worker {pid} has been stopped for {self._timeout:.0f} s")

    def _forgive_silence(self) -> None:
        """Count silence from now on: this process was suspended, as some schedulers do with a whole job."""
        self._answered = time.monotonic()
        for peer in self._peers.values():
            peer.last_sign = self._answered

    def _end_if_lost(self, patience: float) -> None:
        silence = time.monotonic() - self._answered
        if self._rank and silence > patience:  # its store does not answer, so nothing is known of the others
            self._end(f"{self._name(0)} has given no sign of life for {silence:.0f} s", whose=0)
        for rank, peer in self._peers.items():
            if peer.failed:
                self._end(f"{self._name(rank)} has ended: {peer.failed}", whose=rank)
            if self._answered - peer.last_sign > patience:
                silence = time.monotonic() - peer.last_sign
                self._end(f"{self._name(rank)} has given no sign of life for {silence:.0f} s", whose=rank)

    def _find_who_fell_silent(self) -> None:
        """After a failure, wait for the silence of a process that has died; if there is one, name it and end."""
        until = time.monotonic() + SILENT_WHEN_OTHERS_FAIL + 2 * BEAT
        while self._peers and time.monotonic() < until:
            self._end_if_lost(SILENT_WHEN_OTHERS_FAIL)
            time.sleep(BEAT / 5)

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._peers[rank].where})"

    def _publish(self, what: str, value: str) -> None:
        if self._store is not None and self._store_lock.acquire(timeout=BEAT):
            try:
                with contextlib.suppress(RuntimeError):  # `_check` notices that the store does not answer
                    self._store.set(f"{what}/{self._rank}", value)
            finally:
                self._store_lock.release()

    def _end(self, reason: str, *, whose: int | None = None) -> NoReturn:
        message = f"{reason}; rank {self._rank} ends too, and the same command continues from the last checkpoint"
        if whose is None or self._rank == (1 if whose == 0 else 0):  # all notice, one speaks
            with contextlib.suppress(OSError):
                self._reporter.note(message)
            print(f"openmae: {message}", file=sys.stderr, flush=True)
        if whose is None and self._peers:
            self._publish("failed", reason)
            time.sleep(2 * BEAT)  # the others need time to read it
        # Loader processes check now and then whether their owner lives. One that is stopped cannot, and would remain.
        for child in multiprocessing.active_children():
            child.kill()
        # An exception would not reach the main thread while that waits in a collective operation.
        os._exit(LOST)


class _Peer:
    """Another process: where it is, its last sign of life, and the error that it ended with."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.failed = ""
        self.last_sign = time.monotonic()
        self._last = b""

    def receive(self, beat: bytes) -> None:
        if beat != self._last:
            self._last, self.last_sign = beat, time.monotonic()


def _open_store(fabric: Fabric) -> TCPStore:
    """A store of our own, kept by rank 0: the process group's does not answer while a collective operation waits."""
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    patience = timedelta(seconds=PATIENCE_OF_STORE)
    own = TCPStore(host, 0, None, True, patience, wait_for_workers=False) if fabric.global_rank == 0 else None
    port: int = fabric.broadcast(own.port if own is not None else 0)
    return own if own is not None else TCPStore(host, port, None, False, patience, wait_for_workers=False)


def _places(fabric: Fabric) -> list[str]:
    """Where each process is; exchanged before the first step, in which one may already be lost."""
    places = [f"process {os.getpid()} on {socket.gethostname()}"] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(places, places[0])
    return places


def _stopped_children() -> list[int]:
    """Loader processes that are stopped, by a signal or a debugger; unknown, so none, where there is no /proc."""
    stopped = []
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child.pid}/stat").read_text()
            if child.pid is not None and status.rpartition(")")[2].split()[0] in ("T", "t"):
                stopped.append(child.pid)
    return stopped
