from pathlib import Path

import pytest

from tests.faults.controls import NO_SYNC
from tests.faults.diskfull import measure_disk_full
from tests.faults.powerloss import Bytes, Disk, Effect, Names, Size, Sync, _possible, measure_power_loss
from tests.faults.saving import MODES
from tests.faults.syscalls import calls_of, measure_crashes, measure_errors
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.usefixtures("strace")


@pytest.mark.slow
def test_a_crash_at_any_call_of_a_save_leaves_a_verified_checkpoint(zygote: Zygote, tmp_path: Path) -> None:
    result = measure_crashes(zygote, tmp_path, trials=40)
    assert result.points == 40
    assert result.verified == result.recovered == result.points, result.failures


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_power_cut_at_any_call_of_a_save_leaves_a_verified_checkpoint(
    zygote: Zygote, tmp_path: Path, mode: str
) -> None:
    result = measure_power_loss(zygote, tmp_path, mode=mode)
    assert result.states > 20
    assert result.verified == result.states, result.failures


@pytest.mark.slow
def test_a_power_cut_after_the_first_save_leaves_it(zygote: Zygote, tmp_path: Path) -> None:
    result = measure_power_loss(zygote, tmp_path, first=True)
    assert result.verified == result.states, result.failures


@pytest.mark.slow
def test_a_power_cut_loses_checkpoints_when_nothing_is_synced(zygote: Zygote, tmp_path: Path) -> None:
    result = measure_power_loss(zygote, tmp_path, hooks=[NO_SYNC])
    assert result.syncs == 0
    assert any("found the checkpoint of step None" in failure for failure in result.failures), result.failures


@pytest.mark.slow
def test_a_disk_that_fails_at_any_call_of_a_save_is_told_and_survived(zygote: Zygote, tmp_path: Path) -> None:
    result = measure_errors(zygote, tmp_path, trials=40)
    assert result.survived == result.told == result.recovered == result.points, result.failures


@pytest.mark.slow
def test_a_run_whose_disk_failed_continues_as_if_nothing_had_been(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_disk_full(zygote, images, tmp_path, runs=1)
    assert result.told == result.identical == result.runs, result.failures


def test_calls_are_read_from_a_trace_that_threads_interrupt() -> None:
    trace = [
        '7 openat(AT_FDCWD, "/a", O_RDONLY|O_CLOEXEC) = 5',
        '7 openat(AT_FDCWD, "/a", O_WRONLY|O_CREAT, 0666) = 6',
        "7 fsync(6 <unfinished ...>",
        '8 write(9, "x", 1)             = 1',
        "7 <... fsync resumed>)          = 0",
        "7 +++ killed by SIGKILL +++",
    ]
    calls = calls_of(trace)
    assert [(call.thread, call.call, call.number, call.result) for call in calls] == [
        (7, "openat", 1, 5),
        (7, "openat", 2, 6),
        (8, "write", 1, 1),
        (7, "fsync", 1, 0),
    ]
    assert [call.changes for call in calls] == [False, True, True, True]


def test_the_disk_forgets_what_was_not_synced() -> None:
    happened: list[Effect] = [
        Names(0, (("a", 1),)),
        Size(1, 3),
        Bytes(1, 0, b"abc"),
        Sync(0),
        Names(0, (("a", None), ("b", 1))),
    ]
    left = set()
    for _, effects in _possible(happened):
        disk = Disk()
        for effect in effects:
            disk.apply(effect)
        left.add(tuple(disk.contents()))
    assert left == {(("a", b""),), (("b", b""),), (("b", b"\0\0\0"),), (("a", b"abc"),), (("b", b"abc"),)}
    synced: list[Effect] = [*happened, Sync(1), Sync(0)]
    assert {tuple(map(str, effects)) for _, effects in _possible(synced)} == {
        tuple(str(effect) for effect in happened if not isinstance(effect, Sync))
    }
