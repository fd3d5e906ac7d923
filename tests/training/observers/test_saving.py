import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from openmae.checkpoints.checkpoint import Checkpoint, Damaged, GivenUp, list_checkpoints
from openmae.checkpoints.save_mode import SaveMode
from openmae.checkpoints.writing import write_checkpoint
from openmae.recipes.values import Every
from openmae.training.observers import saving
from openmae.training.observers.saving import Saver
from openmae.training.runs import Run


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, model={"a": torch.zeros(2)}, optimizer={})


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(saving, "time", SimpleNamespace(monotonic=lambda: self.now))


class Folder:
    """The part of a run that a saver uses."""

    def __init__(self, path: Path) -> None:
        self.checkpoints = path

    def sync(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def saver(folder: Folder, every: str) -> Saver:
    return Saver(cast(Run, folder), Every.parse(every), keep=9, metadata={}, asked=threading.Event())


def saved(folder: Folder) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(folder.checkpoints)]


@pytest.mark.parametrize(
    ("every", "due"),
    [
        ("1step", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("3steps", [3, 6]),
        ("1epoch", [4, 8]),
        ("2epochs", [8]),
        ("0.5epochs", [2, 4, 6, 8]),
    ],
)
def test_every_so_many_steps_or_epochs(folder: Folder, every: str, due: list[int]) -> None:
    with saver(folder, every) as found:
        assert [step for step in range(1, 9) if found.due(step, 4)] == due


def test_every_so_many_minutes_from_the_last_save_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with saver(folder, "5min") as found:
        clock.now += 299
        assert not found.due(1, 10)
        clock.now += 1
        assert found.due(2, 10)
        found.save(checkpoint(2), SaveMode.WAITED)
        assert not found.due(3, 10)
        clock.now += 300
        assert found.due(4, 10)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits for the event."""
    done = threading.Event()
    write = write_checkpoint

    def wait(*arguments: Any, **options: Any) -> Path:
        assert done.wait(10)
        return write(*arguments, **options)

    monkeypatch.setattr(saving, "write_checkpoint", wait)
    yield done
    done.set()


def test_the_training_goes_on_while_a_checkpoint_is_written(
    folder: Folder, slow_disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with saver(folder, "5min") as found:
        found.save(checkpoint(1), SaveMode.BACKGROUND)
        clock.now += 10_000
        assert not found.due(2, 10), "another one is asked for only when that is done"
        assert saved(folder) == []
        slow_disk.set()
        found.wait()
        assert saved(folder) == [1]
        assert found.due(3, 10)


def test_leaving_lets_the_last_one_be_finished(folder: Folder, slow_disk: threading.Event) -> None:
    threading.Timer(0.1, slow_disk.set).start()
    with saver(folder, "1step") as found:
        found.save(checkpoint(1), SaveMode.BACKGROUND)
    assert saved(folder) == [1]


def test_a_save_in_the_background_is_given_up_as_soon_as_the_run_is_asked_to_stop(
    said: list[str], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ended = threading.Event(), threading.Event()

    def slow(*_: Any, given_up: Callable[[], bool], **__: Any) -> Path:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if given_up():
                ended.set()
                raise GivenUp
        raise AssertionError

    found = Saver(cast(Run, folder), Every.parse("5min"), keep=9, metadata={}, asked=asked)
    with found:
        with monkeypatch.context() as patch:
            patch.setattr(saving, "write_checkpoint", slow)
            found.save(checkpoint(1), SaveMode.BACKGROUND)
            asked.set()
            assert ended.wait(10)
            found.wait()
            assert (found.saved, saved(folder)) == (None, [])
            assert not found.due(4, 10), "to give up is no failure, after which another try is due in a minute"
        found.save(checkpoint(2), SaveMode.BEFORE_EXIT)
    assert saved(folder) == [2]
    assert said == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
def test_only_a_save_in_the_background_has_a_lower_priority(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    priorities: list[int] = []

    def note(*_: Any, **__: Any) -> None:
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(saving, "write_checkpoint", note)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with saver(folder, "1step") as found:
        found.save(checkpoint(1), SaveMode.BACKGROUND)
        found.save(checkpoint(2), SaveMode.WAITED)
    assert priorities == [min(own + saving.NICER, 19), own]


def test_priorities_that_may_not_be_set_do_not_matter(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setpriority", forbid)
    with saver(folder, "1step") as found:
        found.save(checkpoint(1), SaveMode.BACKGROUND)
    assert saved(folder) == [1]


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def write(*_: Any, **__: Any) -> Path:
        raise error

    monkeypatch.setattr(saving, "write_checkpoint", write)


@pytest.mark.parametrize("every", ["5min", "1000steps"])
def test_a_disk_that_refuses_is_reported_and_tried_again_a_minute_later(
    said: list[str], folder: Folder, monkeypatch: pytest.MonkeyPatch, every: str
) -> None:
    clock = Clock(monkeypatch)
    with saver(folder, every) as found:
        with monkeypatch.context() as patch:
            refuse(patch, OSError(errno.ENOSPC, "No space left on device"))
            found.save(checkpoint(7), SaveMode.BACKGROUND)
            found.wait()
        assert said == [
            "a checkpoint could not be saved (No space left on device); the run goes on and will try again in a "
            "minute: free some space"
        ]
        assert not found.due(8, 10)
        clock.now += 60
        assert found.due(9, 10)
        found.save(checkpoint(9), SaveMode.BACKGROUND)
        found.wait()
        assert saved(folder) == [9]
        assert len(said) == 1
        assert not found.due(11, 10)


REFUSALS = {
    "full": (OSError(errno.ENOSPC, "No space left"), "cannot save step 3: No space left; free some space$"),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded"), "cannot save step 3: Quota exceeded; free some space, or ask"),
    "read-only": (OSError(errno.EROFS, "Read-only"), "cannot save step 3: Read-only; the file system has become"),
    "failing": (OSError(errno.EIO, "Input/output error"), "Input/output error; the disk is failing"),
    "lying": (Damaged("model.safetensors did not come back"), "did not come back; look at the disk that holds"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_where_a_checkpoint_must_be_written_its_failure_ends_the_run(
    said: list[str], folder: Folder, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    error, message = REFUSALS[kind]
    refuse(monkeypatch, error)
    with saver(folder, "5min") as found, pytest.raises(ValueError, match=message):
        found.save(checkpoint(3), SaveMode.WAITED)
    assert said == []


def test_our_own_mistakes_are_not_taken_for_the_disks(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, KeyError("a"))
    found = saver(folder, "5min")
    found.save(checkpoint(3), SaveMode.BACKGROUND)
    with pytest.raises(KeyError):
        found.wait()
    found.__exit__(None, None, None)
