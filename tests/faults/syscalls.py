"""Crash, or fail, at every single system call of a save, with strace."""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.faults import saving
from tests.faults.zygote import Zygote

# What changes a disk. Reading, and asking, is left out; so are calls that this save does not make anyway.
CHANGES = [
    *("openat", "open", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("fallocate", "ftruncate", "truncate", "fsync", "fdatasync", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("rmdir", "mkdir", "mkdirat", "fchmod", "chmod"),
]
OLD, NEWER, NEW, NEXT = 10, 20, 30, 40
"""The steps of the two checkpoints that are there, of the save that is disturbed and of the one after it."""
ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
WORDS = {
    "ENOSPC": "No space left on device",
    "EIO": "Input/output error",
    "EROFS": "Read-only file system",
    "EDQUOT": "Disk quota exceeded",
}
T = TypeVar("T")
LINE = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?).*$")


class Call(NamedTuple):
    """One system call of a save.

    `number` counts the calls of that name by that thread, from 1, as strace's `when` does.
    """

    thread: int
    call: str
    arguments: str
    result: int
    number: int

    @property
    def changes(self) -> bool:
        """Whether it changes anything; opening to read does not."""
        return self.call not in ("openat", "open") or any(
            flag in self.arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
        )


@dataclass(frozen=True, kw_only=True)
class CrashResult:
    """A kill just before each call of a save that changes the disk, and of one before an exit.

    `verified`: a verified checkpoint, the old or the new one, was found; `recovered`: the next save worked and left
    nothing behind.
    """

    points: int
    verified: int
    recovered: int
    calls: dict[str, int]
    failures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ErrorResult:
    """An error of the disk at each call of a save, and of one before an exit, once and from then on.

    `survived`: a verified checkpoint, the old or the new one, was found; `told`: the command ended with code 1 and one
    sentence that names the error, or the save succeeded all the same; `recovered`: the next save, on a mended disk,
    worked.
    """

    points: int
    survived: int
    told: int
    recovered: int
    saved_all_the_same: int
    failures: tuple[str, ...]


def unavailable() -> str | None:
    """Why this cannot run here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else None


class Watched(NamedTuple):
    """How a watched save went: the child's exit code (negative for a signal), what it said, and the trace."""

    code: int
    message: str
    trace: list[str]


def watched_save(
    zygote: Zygote,
    folder: Path,
    step: int,
    gate: Path,
    options: Sequence[str],
    *,
    mode: str = saving.WAITED,
    hooks: Sequence[str] = (),
) -> Watched:
    """Let a child save `step` into `folder` under strace, which is attached just before and follows every thread."""
    shutil.rmtree(gate, ignore_errors=True)
    gate.mkdir(parents=True)
    (gate / "message").write_bytes(bytes(saving.MESSAGE_BYTES))
    child = zygote.start(saving.SAVE, [str(folder), str(step), str(gate), mode], log=gate / "log", hooks=hooks)
    _until(lambda: (gate / "ready").exists() or not child.alive())
    traced = ",".join(f"?{call}" for call in CHANGES)
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(child.pid), "-o", str(gate / "trace"), "-e", f"trace={traced}", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _until(lambda: not re.search(r"TracerPid:\t0\n", Path(f"/proc/{child.pid}/status").read_text()))
    (gate / "go").touch()
    code = child.wait(60)
    tracer.communicate(timeout=30)
    message = (gate / "message").read_bytes().rstrip(b"\0").decode()
    message += (gate / "log").read_text(errors="replace")
    return Watched(code, message, (gate / "trace").read_text(errors="replace").splitlines())


def calls_of(trace: Sequence[str]) -> list[Call]:
    """The calls of a save in order; those of another thread may interrupt a line, which strace then finishes later."""
    counts: Counter[tuple[int, str]] = Counter()
    unfinished: dict[int, str] = {}
    found = []
    for line in trace:
        thread = int(line.split(None, 1)[0])
        if line.endswith("<unfinished ...>"):
            unfinished[thread] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if "resumed>" in line:
            line = unfinished.pop(thread) + line.split("resumed>", 1)[1]
        match = LINE.match(line)
        if match is None:
            continue  # signals and exits
        name = match["call"]
        counts[thread, name] += 1
        if name.startswith("open") and '/done"' in match["arguments"]:
            break
        result = -1 if match["result"] == "?" else int(match["result"])
        found.append(Call(thread, name, match["arguments"], result, counts[thread, name]))
    return found


def prepare(folder: Path) -> Path:
    """A folder of two good checkpoints."""
    for step in (OLD, NEWER):
        saving.write(folder, step, keep=2)
    return folder


def points_of(calls: Sequence[Call]) -> list[tuple[str, int]]:
    """Where to strike: each call that changes the disk, in order."""
    return list(dict.fromkeys((call.call, call.number) for call in calls if call.changes))


def measure_crashes(
    zygote: Zygote, folder: Path, *, trials: int | None = None, say: Callable[[str], None] = lambda _: None
) -> CrashResult:
    """Kill the process at each call; only at `trials` of them, evenly spread, when given."""
    before = prepare(folder / "before")
    every = [
        (mode, call, when)
        for mode in saving.MODES
        for call, when in points_of(_undisturbed(zygote, folder, before, mode))
    ]
    points = _spread(every, trials)
    verified = recovered = 0
    failures = []
    for number, (mode, call, when) in enumerate(points):
        there = _copy(before, folder / "crash")
        inject = f"inject={call}:signal=SIGKILL:when={when}"
        done = watched_save(zygote, there, NEW, folder / "gate", ["-e", inject], mode=mode)
        if done.code != -9:
            failures.append(
                f"{mode}, {call} {when}: ended with {done.code} rather than by the kill: {done.message.strip()[:200]}"
            )
            continue
        ok, again = _outcome(there)
        verified += ok is None
        recovered += again is None
        failures += [f"killed at {call} {when}, {mode}: {problem}" for problem in (ok, again) if problem is not None]
        say(f"crash {number + 1}/{len(points)} at {call} {when}, {mode}: {ok or 'verified'}, {again or 'recovered'}")
    return CrashResult(
        points=len(points),
        verified=verified,
        recovered=recovered,
        calls=dict(Counter(call for _, call, _ in points)),
        failures=tuple(failures),
    )


def measure_errors(
    zygote: Zygote,
    folder: Path,
    *,
    trials: int | None = None,
    errors: Sequence[str] = ERRORS,
    say: Callable[[str], None] = lambda _: None,
) -> ErrorResult:
    """Let each call fail, once and from then on, with each error."""
    before = prepare(folder / "before")
    every = [
        (mode, error, call, when, then)
        for mode in saving.MODES
        for call, when in points_of(_undisturbed(zygote, folder, before, mode))
        for error in errors
        for then in ("", "+")
    ]
    points = _spread(every, trials)
    survived = told = recovered = anyway = 0
    failures = []
    for number, (mode, error, call, when, then) in enumerate(points):
        there = _copy(before, folder / "error")
        inject = f"inject={call}:error={error}:when={when}{then}"
        done = watched_save(zygote, there, NEW, folder / "gate", ["-e", inject], mode=mode)
        sentence = done.message.strip()
        tells = done.code == 0 or (done.code == 1 and WORDS[error] in sentence and "Traceback" not in sentence)
        tells = tells and "\n" not in sentence
        ok, again = _outcome(there)
        survived += ok is None
        told += tells
        recovered += again is None
        anyway += done.code == 0
        where = f"{error} at {call} {when}{then}, {mode}"
        failures += [f"{where}: {problem}" for problem in (ok, again) if problem is not None]
        if not tells:
            failures.append(f"{where}: ended with {done.code} and said {sentence[-300:]!r}")
        say(f"error {number + 1}/{len(points)}: {where}: {ok or 'survived'}, {again or 'recovered'}, {sentence[:120]}")
    return ErrorResult(
        points=len(points),
        survived=survived,
        told=told,
        recovered=recovered,
        saved_all_the_same=anyway,
        failures=tuple(failures),
    )


def _undisturbed(zygote: Zygote, folder: Path, before: Path, mode: str) -> list[Call]:
    done = watched_save(zygote, _copy(before, folder / "undisturbed"), NEW, folder / "gate", [], mode=mode)
    assert done.code == 0, done.message
    return calls_of(done.trace)


def _outcome(folder: Path) -> tuple[str | None, str | None]:
    """What is wrong with the folder after a disturbed save, and with a save that follows; None where all is well."""
    problem = None
    try:
        step = saving.found(folder)
        if step not in (NEWER, NEW):
            problem = f"found the checkpoint of step {step} rather than {NEWER} or {NEW}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    again = None
    try:
        saving.write(folder, NEXT)
        left = sorted(path.name for path in folder.iterdir())
        if saving.found(folder) != NEXT:
            again = f"the next save cannot be found among {left}"
        elif len(left) > saving.KEEP:
            again = f"the next save leaves {left}"
    except Exception as error:
        again = f"the next save ends in {type(error).__name__}: {error}"
    return problem, again


def _copy(source: Path, destination: Path) -> Path:
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(source, destination)
    return destination


def _spread(points: Sequence[T], count: int | None) -> list[T]:
    if count is None or count >= len(points):
        return list(points)
    return [points[index * (len(points) - 1) // max(1, count - 1)] for index in range(count)]


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the watched child or strace did not start in time")
        time.sleep(0.001)
