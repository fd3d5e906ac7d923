import signal
import time
from pathlib import Path

import pytest

from tests.faults import processes
from tests.faults.job import METRICS, command
from tests.faults.nonfinite import measure_nonfinite
from tests.faults.processes import LONG, _left, measure_cycles, measure_losses, start_ranks, wait_for_lines
from tests.faults.stops import measure_stops
from tests.faults.zygote import Zygote


@pytest.mark.slow
@pytest.mark.parametrize("case", ["rank 1 killed", "rank 0 stopped", "data worker of rank 1 stopped"])
def test_when_a_process_is_lost_the_others_end_and_name_it(
    zygote: Zygote, images: Path, tmp_path: Path, case: str
) -> None:
    result = measure_losses(zygote, images, tmp_path, cases=[case], patience=2.0)
    assert not result.failures
    assert (result.named, result.left) == (1, 0)


@pytest.mark.slow
def test_a_job_that_is_suspended_and_resumed_goes_on(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    """As schedulers do that lend the machine to somebody else for a while."""
    out = tmp_path / "suspended"
    ranks = start_ranks(zygote, command(images, out, more=[*LONG, "--peer-timeout", "2"]), tmp_path / "said.log")
    wait_for_lines(out, ranks)
    for child in ranks:
        child.kill(signal.SIGSTOP)
    time.sleep(4)
    for child in ranks:
        child.kill(signal.SIGCONT)
    wait_for_lines(out, ranks, lines=len((out / METRICS).read_text().splitlines()) + 20)
    assert all(child.alive() for child in ranks)
    for child in ranks:
        child.kill()
        child.wait()


@pytest.mark.slow
def test_killed_runs_leave_nothing_behind_and_come_to_their_end(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_cycles(zygote, images, tmp_path, cycles=1, epochs=10)
    assert not result.failures
    assert result.kills >= 1
    assert (result.refused, result.processes, result.ports, result.shared_memory) == (0, 0, 0, 0)
    assert result.completed


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_reaches_no_file_and_hangs_nobody(
    zygote: Zygote, images: Path, tmp_path: Path
) -> None:
    result = measure_nonfinite(zygote, images, tmp_path, places=["loss", "weights", "optimizer state"], ranks=[1])
    assert (result.corrupt_files, result.hung) == (0, 0), result.failures
    assert result.completed == result.told == result.runs
    assert result.rewinds == 3


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_says_how_to_go_on_and_does(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_stops(zygote, images, tmp_path, runs=2)
    assert result.stopped > 0
    assert result.identical == result.runs, result.failures
    assert not result.failures


def test_what_comes_and_goes_on_this_machine_is_not_taken_for_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LIMIT", 0.3)
    seen = iter([{"old", "somebody's", "ours"}, {"old", "ours"}, *[{"old", "ours", "another's"}] * 99])
    assert _left(lambda: next(seen), {"old"}) == {"ours"}
