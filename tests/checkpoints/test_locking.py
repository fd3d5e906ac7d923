import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openmae.checkpoints.locking import FolderLock

IMPORTS = "import os, sys, time; from pathlib import Path; from openmae.checkpoints.locking import FolderLock"
HOLD = IMPORTS + "; {}; time.sleep(60)"
LOCK = "lock = FolderLock(Path(sys.argv[1])); print('locked', flush=True)"
FORK = f"{LOCK}; os.fork() or time.sleep(60)"


def holder(folder: Path, code: str = LOCK) -> subprocess.Popen[str]:
    """Another process that has locked the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(code), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_refused_and_learns_which_one_has_the_folder(tmp_path: Path) -> None:
    other = holder(tmp_path)
    try:
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path} is in use by process {other.pid} on ")) as refused:
            FolderLock(tmp_path)
        assert "wait for it or stop it, or give another --out" in str(refused.value)
    finally:
        end(other)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    end(holder(tmp_path))
    FolderLock(tmp_path).release()


def test_a_process_that_the_owner_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Loader processes outlive a killed run for some seconds, in which it must be possible to start it again."""
    other = holder(tmp_path, FORK)
    try:
        time.sleep(0.2)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        FolderLock(tmp_path).release()
    finally:
        end(other)


def test_a_released_folder_can_be_locked_again(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.release()
    other = holder(tmp_path)
    end(other)


def test_a_file_system_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    FolderLock(tmp_path).release()
