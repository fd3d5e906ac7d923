import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from openmae.training.processes import launching
from openmae.training.processes.launching import LOST, process_rank, processes_exist, run_processes
from openmae.training.processes.stopping import STOPPED

REAL = subprocess.Popen


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What each process runs instead of openmae: Python code, in which `rank` is its number."""
    program = {"code": ""}

    def popen(_command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        code = f"import os, signal, sys, time; rank = int(os.environ['LOCAL_RANK']); {program['code']}"
        return REAL([sys.executable, "-c", code], cwd=tmp_path, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return program


def run(patience: float = 10.0) -> int:
    return run_processes(["pretrain"], devices=2, nodes=1, patience=patience)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        (f"sys.exit({STOPPED})", STOPPED),
        ("sys.exit(2)", 2),
        ("sys.exit(3 * rank)", 3),
        (f"sys.exit({STOPPED} if rank else 0)", STOPPED),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank else None", 1),
    ],
)
def test_the_exit_code_is_that_of_the_processes(child: dict[str, str], code: str, expected: int) -> None:
    child["code"] = code
    assert run() == expected


def test_each_process_is_told_who_it_is_and_where_the_others_are(child: dict[str, str], tmp_path: Path) -> None:
    names = ["WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "OPENMAE_SUPERVISOR"]
    child["code"] = f"open(f'{{rank}}', 'w').write(' '.join(os.environ[n] for n in {names}))"
    assert run() == 0
    first, second = ((tmp_path / name).read_text().split() for name in "01")
    assert first == second
    assert first[:4] == ["2", "2", "0", "127.0.0.1"]
    assert first[5] == str(os.getpid())


def test_one_that_is_killed_is_named_and_the_rest_ended(
    child: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    child["code"] = "os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(60)"
    began = time.monotonic()
    assert run(patience=0.3) == 1
    assert time.monotonic() - began < 20
    assert "(local rank 1) was ended by SIGKILL" in capfd.readouterr().err


def test_who_lost_another_one_is_not_waited_for_long(child: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is stopped, or it would have ended by itself."""
    monkeypatch.setattr(launching, "GRACE_OF_THE_LOST", 0.2)
    child["code"] = f"sys.exit({LOST}) if rank else os.kill(os.getpid(), signal.SIGSTOP)"
    began = time.monotonic()
    assert run(patience=60.0) == LOST
    assert time.monotonic() - began < 30


def test_loader_processes_end_with_one_that_had_to_be_killed(child: dict[str, str], tmp_path: Path) -> None:
    """They do not notice that it has gone when they have been stopped with it."""
    child["code"] = (
        "import subprocess; loader = subprocess.Popen(['sleep', '60']); open(f'{rank}', 'w').write(str(loader.pid)); "
        "time.sleep(0.5 * rank); sys.exit(3) if rank else os.killpg(0, signal.SIGSTOP)"
    )
    assert run(patience=1.0) == 3
    loader = Path(f"/proc/{(tmp_path / '0').read_text()}/stat")
    until = time.monotonic() + 10
    while loader.exists() and loader.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < until:
        time.sleep(0.05)
    assert not loader.exists() or loader.read_text().rpartition(")")[2].split()[0] == "Z"
    os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)  # of the one that has ended by itself


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_requests_to_stop_reach_every_process_once(
    child: dict[str, str], tmp_path: Path, which: signal.Signals
) -> None:
    child["code"] = (
        f"signal.signal({int(which)}, lambda *_: (open(f'{{rank}}', 'a').write('!'), sys.exit({STOPPED}))); "
        "open(f'ready-{rank}', 'w').close(); time.sleep(60)"
    )

    def ask() -> None:
        while not all((tmp_path / f"ready-{rank}").exists() for rank in range(2)):
            time.sleep(0.01)
        os.kill(os.getpid(), which)

    before = signal.getsignal(which)
    threading.Thread(target=ask).start()
    assert run() == STOPPED
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["!", "!"]
    assert signal.getsignal(which) == before


def test_several_machines_must_be_able_to_find_each_other() -> None:
    with pytest.raises(ValueError, match="2 machines must find each other; set MASTER_ADDR"):
        run_processes(["pretrain"], devices=1, nodes=2, patience=1.0)


@pytest.mark.parametrize(
    ("environment", "rank", "exist"),
    [
        ({}, 0, False),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "NODE_RANK": "2"}, 9, True),
        ({"LOCAL_RANK": "1", "RANK": "5"}, 5, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "x"}, 3, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "interactive"}, 0, False),
    ],
)
def test_who_started_a_process_says_which_one_it_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], rank: int, exist: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank
    assert processes_exist() == exist
