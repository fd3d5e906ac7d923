"""Ask a run to stop, at random moments: how long it takes, how it ends, and whether it then goes on identically."""

import random
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openmae.training.processes.stopping import REQUESTS, STOPPED
from tests.faults.job import CLI, ENCODER, METRICS, command, losses, tensors_sha256
from tests.faults.zygote import Child, Zygote

WORKERS = (0, 2)


@dataclass(frozen=True, kw_only=True)
class StopResult:
    """Runs that were asked to stop, with all their processes, as a terminal or a scheduler asks.

    `stopped`: those that ended with the code for it and the command to go on with; `finished`: those that came to their
    end before they had noticed.
    `identical`: those that then continued to the trace of an undisturbed run. Times in seconds.
    """

    runs: int
    stopped: int
    finished: int
    identical: int
    median: float
    longest: float
    failures: tuple[str, ...]


def measure_stops(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    runs: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> StopResult:
    """Ask that many runs with each signal in turn, and continue each."""
    rng = random.Random(seed)
    straight = folder / "straight"
    began = time.monotonic()
    assert zygote.run(CLI, command(images, straight), log=folder / "straight.log") == 0
    duration = time.monotonic() - began
    expected = losses(straight), tensors_sha256(straight / ENCODER)
    stopped = finished = identical = 0
    seconds: list[float] = []
    failures: list[str] = []
    for run in range(runs):
        out, log = folder / f"stopped-{run}", folder / f"stopped-{run}.log"
        which, workers = REQUESTS[run % len(REQUESTS)], WORKERS[run // len(REQUESTS) % len(WORKERS)]
        arguments = command(images, out, workers=workers)
        child = zygote.start(CLI, arguments, log=log)
        _wait_for_first_step(out, child)
        time.sleep(rng.uniform(0, duration / 2))
        asked = time.monotonic()
        child.kill(which)
        code = child.wait()
        seconds.append(time.monotonic() - asked)
        told = code == STOPPED and "everything is saved; to continue: openmae pretrain" in log.read_text()
        stopped += told
        finished += code == 0
        again = zygote.run(CLI, arguments, log=log)
        same = again == 0 and (losses(out), tensors_sha256(out / ENCODER)) == expected
        identical += same
        if not (told or code == 0) or not same:
            failures.append(f"{which.name}, {workers} workers: {code}, then {again}: {log.read_text()[-300:]}")
        say(f"{signal.Signals(which).name}, {workers} workers: {code} after {seconds[-1]:.2f} s, then {again}")
        shutil.rmtree(out)
    return StopResult(
        runs=runs,
        stopped=stopped,
        finished=finished,
        identical=identical,
        median=round(statistics.median(seconds), 2),
        longest=round(max(seconds), 2),
        failures=tuple(failures),
    )


def _wait_for_first_step(out: Path, child: Child) -> None:
    while not (out / METRICS).exists() and child.alive():
        time.sleep(0.005)
