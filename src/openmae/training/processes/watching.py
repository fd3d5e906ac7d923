"""Processes that watch each other, so that the death of one ends all of them instead of letting them wait for ever."""

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
# A process that fell silent this long ago is to blame for a collective operation that has just failed.
SILENT_WHEN_OTHERS_FAIL = 5.0
PATIENCE_OF_STORE = 5.0


class Watch:
    """While it is entered, this process gives signs of life and looks for those of the others.

    When another process of the run has been silent for `timeout` seconds (killed, stopped, or its machine gone), or has
    ended with an error, or a loader process of this one has been stopped, the process says which it was and ends:
    waiting in a collective operation it could not do so by itself.

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
        # Two threads: a store whose keeper is stopped never answers, and somebody must notice that.
        self._threads = [threading.Thread(target=self._judge, daemon=True)]
        if self._store is not None:
            self._threads.append(threading.Thread(target=self._talk, daemon=True))

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What fails in a collective operation fails because of somebody else, as a rule; out of memory one is alone.
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            self._find_who_fell_silent()
        if error is not None and not isinstance(error, Interrupted) and self._peers:
            self._tell("failed", str(error) or type(error).__name__)
            error.add_note(ANNOUNCED)
            time.sleep(2 * BEAT)  # long enough to be heard: what rank 0 keeps ends with it
        self._ended.set()

    def _talk(self) -> None:
        """Give signs of life and hear those of the others, through the store that rank 0 keeps."""
        assert self._store is not None
        beats = 0
        while not self._ended.is_set():
            self._tell("alive", str(beats))
            beats += 1
            with self._store_lock, contextlib.suppress(RuntimeError):
                for rank, peer in self._peers.items():
                    if self._store.check([f"failed/{rank}"]):
                        peer.failed = self._store.get(f"failed/{rank}").decode()
                    if self._store.check([f"alive/{rank}"]):
                        peer.hear(self._store.get(f"alive/{rank}"))
                self._answered = time.monotonic()
            self._ended.wait(BEAT)

    def _judge(self) -> None:
        """End this process when another one or a loader process of this one is lost."""
        stopped_since: dict[int, float] = {}
        woke = time.monotonic()
        while not self._ended.wait(BEAT):
            slept, woke = time.monotonic() - woke, time.monotonic()
            if slept > BEAT + self._timeout / 2:
                self._start_anew()
            self._end_if_lost(self._timeout)
            if SUPERVISOR in os.environ and os.getppid() != self._parent:
                self._end("the process that started this one has ended")
            stopped_since = {pid: stopped_since.get(pid, time.monotonic()) for pid in _stopped_children()}
            for pid, since in stopped_since.items():
                if time.monotonic() - since > self._timeout:
                    self._end(f"data worker {pid} has been stopped for {self._timeout:.0f} s")

    def _start_anew(self) -> None:
        """After this process was suspended, as some schedulers do with all of a job: what it missed is no silence."""
        self._answered = time.monotonic()
        for peer in self._peers.values():
            peer.heard = self._answered

    def _end_if_lost(self, patience: float) -> None:
        silence = time.monotonic() - self._answered
        if self._rank and silence > patience:  # the others cannot be judged through a store that does not answer
            self._end(f"{self._name(0)} has given no sign of life for {silence:.0f} s", whose=0)
        for rank, peer in self._peers.items():
            if peer.failed:
                self._end(f"{self._name(rank)} has ended: {peer.failed}", whose=rank)
            if self._answered - peer.heard > patience:
                silence = time.monotonic() - peer.heard
                self._end(f"{self._name(rank)} has given no sign of life for {silence:.0f} s", whose=rank)

    def _find_who_fell_silent(self) -> None:
        """Wait until it shows whose fault a failure was, if anybody's, and say so."""
        until = time.monotonic() + SILENT_WHEN_OTHERS_FAIL + 2 * BEAT
        while self._peers and time.monotonic() < until:
            self._end_if_lost(SILENT_WHEN_OTHERS_FAIL)
            time.sleep(BEAT / 5)

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._peers[rank].where})"

    def _tell(self, what: str, value: str) -> None:
        if self._store is not None and self._store_lock.acquire(timeout=BEAT):
            try:
                with contextlib.suppress(RuntimeError):  # that it does not answer is noticed elsewhere
                    self._store.set(f"{what}/{self._rank}", value)
            finally:
                self._store_lock.release()

    def _end(self, reason: str, *, whose: int | None = None) -> NoReturn:
        message = f"{reason}; rank {self._rank} ends too, and the same command continues from the last checkpoint"
        if whose is None or self._rank == (1 if whose == 0 else 0):  # one voice for all who noticed
            with contextlib.suppress(OSError):
                self._reporter.note(message)
            print(f"openmae: {message}", file=sys.stderr, flush=True)
        if whose is None and self._peers:
            self._tell("failed", reason)
            time.sleep(2 * BEAT)  # long enough to be heard
        # Loader processes look for their owner every few seconds; one that has been stopped does not, and would stay.
        for child in multiprocessing.active_children():
            child.kill()
        # Not an exception: the first thread may be waiting in a collective operation, which nothing interrupts.
        os._exit(LOST)


class _Peer:
    """What is known of another process."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.failed = ""
        self.heard = time.monotonic()
        self._last = b""

    def hear(self, beat: bytes) -> None:
        if beat != self._last:
            self._last, self.heard = beat, time.monotonic()


def _open_store(fabric: Fabric) -> TCPStore:
    """A store of our own, kept by rank 0: that of the process group cannot be asked while a collective waits."""
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    patience = timedelta(seconds=PATIENCE_OF_STORE)
    own = TCPStore(host, 0, None, True, patience, wait_for_workers=False) if fabric.global_rank == 0 else None
    port: int = fabric.broadcast(own.port if own is not None else 0)
    return own if own is not None else TCPStore(host, port, None, False, patience, wait_for_workers=False)


def _places(fabric: Fabric) -> list[str]:
    """Where each process is; told before the first step, for the first process to be lost may be lost in it."""
    places = [f"process {os.getpid()} on {socket.gethostname()}"] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(places, places[0])
    return places


def _stopped_children() -> list[int]:
    """Loader processes that somebody has stopped; where there is no /proc nobody can tell."""
    stopped = []
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child.pid}/stat").read_text()
            if child.pid is not None and status.rpartition(")")[2].split()[0] in ("T", "t"):
                stopped.append(child.pid)
    return stopped
