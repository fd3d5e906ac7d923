"""Disks that fail in the middle of whole runs: what the command says, and whether it goes on once there is room."""

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.job import ENCODER, Trace, openmae, trace
from tests.faults.syscalls import ERRORS, WORDS
from tests.faults.zygote import Child, Zygote

AWAIT_TRACER = "tests.faults.diskfull:await_tracer"
CALLS = ("fsync", "rename", "renameat", "mkdir", "ftruncate", "unlinkat")


@dataclass(frozen=True, kw_only=True)
class DiskFullResult:
    """Runs whose disk failed at a random call, once or from then on.

    `told`: code 1 and one sentence with the error, or the run went on to the end; `identical`: the same command then
    continued to the trace of an undisturbed run.
    """

    runs: int
    told: int
    went_on: int
    identical: int
    failures: tuple[str, ...]


def await_tracer() -> None:
    """In a child: nothing happens before strace is attached."""
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        time.sleep(0.001)


def measure_disk_full(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    runs: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> DiskFullResult:
    """Disturb that many runs of the tiny job, and continue each."""
    rng, contender = random.Random(seed), openmae(images)
    expected, counts = _undisturbed(zygote, images, folder)
    told = went_on = identical = 0
    failures = []
    for run in range(runs):
        out, log = folder / f"full-{run}", folder / f"full-{run}.log"
        call, error, then = rng.choice(sorted(counts)), rng.choice(ERRORS), rng.choice(["", "+"])
        when = rng.randint(1, counts[call])
        where = f"{error} at {call} {when}{then}"
        child = zygote.start(contender.target, contender.arguments(out), log=log, hooks=[AWAIT_TRACER])
        tracer = _attach(child, folder / "trace", ["-e", f"inject={call}:error={error}:when={when}{then}"])
        code = child.wait()
        tracer.communicate(timeout=30)
        lines = [line for line in log.read_text().splitlines() if line.startswith("openmae: ")]
        clear = code == 0 or (code == 1 and len(lines) == 1 and WORDS[error] in lines[0])
        clear = clear and "Traceback" not in log.read_text()
        told += clear
        went_on += code == 0
        if not clear:
            failures.append(f"{where}: ended with {code} and said {log.read_text()[-300:]!r}")
        again = zygote.run(contender.target, contender.arguments(out), log=log)
        same = again == 0 and (out / ENCODER).exists() and trace(out) == expected
        identical += same
        if not same:
            failures.append(f"{where}: continued with code {again} to another trace; {log.read_text()[-200:]!r}")
        shutil.rmtree(out, ignore_errors=True)
        say(
            f"disk full {run + 1}/{runs}: {where}: {(lines or ['went on'])[-1][:100]}, {'identical' if same else 'NOT'}"
        )
    return DiskFullResult(runs=runs, told=told, went_on=went_on, identical=identical, failures=tuple(failures))


def _undisturbed(zygote: Zygote, images: Path, folder: Path) -> tuple[Trace, dict[str, int]]:
    """The trace of a run that is left alone, and how often it makes each call."""
    contender, file, out, log = openmae(images), folder / "counted", folder / "counting", folder / "counting.log"
    child = zygote.start(contender.target, contender.arguments(out), log=log, hooks=[AWAIT_TRACER])
    tracer = _attach(child, file, [])
    assert child.wait() == 0, log.read_text()
    tracer.communicate(timeout=30)
    words = (line.split(None, 1)[1].partition("(")[0] for line in file.read_text(errors="replace").splitlines())
    return trace(out), {call: count for call, count in Counter(words).items() if call in CALLS}


def _attach(child: Child, file: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = ["strace", "-f", "-p", str(child.pid), "-o", str(file), "-e", f"trace={','.join(CALLS)}", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
