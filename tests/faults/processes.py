"""Runs of two processes: one of them, or a data worker, is killed or stopped; and what many such ends leave behind."""

import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.job import CLI, ENCODER, METRICS, command, tensors_sha256
from tests.faults.zygote import HUNG, Child, Zygote

PATIENCE = 20.0  # the product's default for --peer-timeout
LIMIT = 30.0
SECONDS_TO_MISS_AN_OWNER = 7.0
"""Loader processes look for theirs every five."""
LONG = ["--epochs", "4000", "--save-every", "20steps", "--log-every", "5"]
CYCLED = ["--save-every", "10steps", "--peer-timeout", "5"]


@dataclass(frozen=True, kw_only=True)
class LossResult:
    """Seconds from the loss of a process until all others had ended, by what was done to which; and what was wrong.

    `left`: processes of those that ended by themselves, loader processes, that did not end with them.
    """

    cases: int
    ended_after: dict[str, float]
    named: int
    left: int
    failures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CycleResult:
    """What is left on the machine after `cycles` of killing both processes of a run and starting them again."""

    cycles: int
    kills: int
    refused: int
    processes: int
    ports: int
    shared_memory: int
    semaphores: int
    completed: bool
    failures: tuple[str, ...]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def start_ranks(
    zygote: Zygote,
    arguments: Sequence[str],
    log: Path,
    *,
    world: int = 2,
    hooks: tuple[str, ...] = (),
    target: str = CLI,
) -> list[Child]:
    """The same command in several processes that find each other, as torchrun or our own supervisor starts them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "NODE_RANK": "0",
    }
    return [
        zygote.start(
            target,
            arguments,
            log=log.with_name(f"{log.stem}-{rank}.log"),
            hooks=hooks,
            environment={**shared, "LOCAL_RANK": str(rank), "RANK": str(rank)},
        )
        for rank in range(world)
    ]


CASES: tuple[tuple[str, int, signal.Signals, bool], ...] = (
    ("rank 1 killed", 1, signal.SIGKILL, False),
    ("rank 0 killed", 0, signal.SIGKILL, False),
    ("rank 1 stopped", 1, signal.SIGSTOP, False),
    ("rank 0 stopped", 0, signal.SIGSTOP, False),
    ("data worker of rank 1 killed", 1, signal.SIGKILL, True),
    ("data worker of rank 1 stopped", 1, signal.SIGSTOP, True),
)


NAMES = [case[0] for case in CASES]


def measure_losses(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    cases: Sequence[str] = NAMES,
    patience: float = PATIENCE,
    say: Callable[[str], None] = lambda _: None,
) -> LossResult:
    """Do each of the cases once, and wait for the others to end."""
    seconds: dict[str, float] = {}
    failures: list[str] = []
    named = left = 0
    for number, (name, rank, what, worker) in enumerate(CASES):
        if name not in cases:
            continue
        out = folder / f"lost-{number}"
        arguments = command(images, out, workers=1 if worker else 0, more=[*LONG, "--peer-timeout", str(patience)])
        ranks = start_ranks(zygote, arguments, folder / f"lost-{number}.log")
        wait_for_lines(out, ranks)
        target = _workers(ranks[rank].pid)[0] if worker else ranks[rank].pid
        os.kill(target, what)
        began = time.monotonic()
        # A rank whose worker is lost must end as well.
        others = [child for child in ranks if worker or child.pid != target]
        while any(child.alive() for child in others) and time.monotonic() - began < 4 * LIMIT:
            time.sleep(0.02)
        seconds[name] = round(time.monotonic() - began, 1)
        alive = [child for child in others if child.alive()]
        for child in ranks:
            if child in alive or child not in others:
                child.kill()
        codes = [child.wait() for child in ranks]
        said = "".join(path.read_text(errors="replace") for path in sorted(folder.glob(f"lost-{number}-*.log")))
        who = r"worker|died" if worker else rf"rank {rank} \(process {ranks[rank].pid} on "
        if alive or any(codes[index] in (0, HUNG) for index, child in enumerate(ranks) if child in others):
            failures.append(f"{name}: ended with {codes}: {said[-300:]}")
        if re.search(who, said):
            named += 1
        else:
            failures.append(f"{name}: not named: {said[-300:]}")
        orphans = _orphans(child.pid for child in others if child not in alive)
        left += len(orphans)
        if orphans:
            failures.append(f"{name}: {len(orphans)} of {len(others)} left loader processes behind")
        say(f"{name}: all ended after {seconds[name]} s with {codes}")
    return LossResult(cases=len(seconds), ended_after=seconds, named=named, left=left, failures=tuple(failures))


def _orphans(ended: Iterable[int]) -> list[int]:
    """Those of the processes that others of their session survive, once these should have noticed; ends them."""
    waiting = list(ended)
    until = time.monotonic() + SECONDS_TO_MISS_AN_OWNER
    while (waiting := [pid for pid in waiting if _session_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in waiting:
        os.killpg(pid, signal.SIGKILL)
    return waiting


def wait_for_lines(out: Path, ranks: Sequence[Child], lines: int = 2) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and all(child.alive() for child in ranks):
        if (out / METRICS).exists() and (out / METRICS).read_text().count("\n") >= lines:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{out} has not begun to train")


def _workers(pid: int) -> list[int]:
    """The loader processes of a process: those of its children that run the same program."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


def measure_cycles(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    cycles: int,
    epochs: int = 60,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> CycleResult:
    """Kill both processes of a run at a random moment and start the same command at once, again and again."""
    rng = random.Random(seed)
    memory_before, ports_before = _shared_memory(), _listening()
    failures: list[str] = []
    refused = kills = starts = finished = 0
    pids: list[int] = []
    while kills < 2 * cycles and len(failures) <= cycles:
        # A run that came to its end between two kills makes room for another one.
        out = folder / f"cycles-{finished}"
        arguments = command(images, out, workers=1, epochs=epochs, more=CYCLED)
        ranks = start_ranks(zygote, arguments, folder / f"cycle-{starts}.log")
        pids += [child.pid for child in ranks]
        time.sleep(rng.uniform(0.2, 3.0))
        for child in rng.sample(ranks, 2):
            child.kill()
        codes = [child.wait() for child in ranks]
        said = "".join(path.read_text(errors="replace") for path in folder.glob(f"cycle-{starts}-*.log"))
        starts += 1
        finished += codes == [0, 0]
        refused += "in use by" in said
        kills += codes.count(-9)
        if any(code not in (0, -9) for code in codes):
            failures.append(f"start {starts}: {codes}: {said[-300:]}")
        say(f"start {starts}: {codes}, {kills} kills")
    processes = len(_orphans(pids))
    result = CycleResult(
        cycles=starts,
        kills=kills,
        refused=refused,
        processes=processes,
        ports=len(_left(_listening, ports_before)),
        shared_memory=len(memory_left := _left(_shared_memory, memory_before)),
        semaphores=sum(name.startswith("sem.") for name in memory_left),
        completed=_completes(zygote, arguments, folder, out, images, epochs),
        failures=tuple(failures),
    )
    return result


def _completes(zygote: Zygote, arguments: Sequence[str], folder: Path, out: Path, images: Path, epochs: int) -> bool:
    """Whether the run that was killed so often ends as one that was left alone does."""
    codes = [child.wait() for child in start_ranks(zygote, arguments, folder / "last.log")]
    straight = folder / "straight"
    again = command(images, straight, workers=1, epochs=epochs, more=CYCLED)
    codes += [child.wait() for child in start_ranks(zygote, again, folder / "straight.log")]
    return codes == [0, 0, 0, 0] and tensors_sha256(out / ENCODER) == tensors_sha256(straight / ENCODER)


def _left(look: Callable[[], set[str]], before: set[str]) -> set[str]:
    """What has come and stays; others on this machine come and go as well."""
    left = look() - before
    until = time.monotonic() + LIMIT
    while left and time.monotonic() < until:
        time.sleep(0.1)
        left &= look()
    return left


def _session_alive(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()} if Path("/dev/shm").is_dir() else set()


def _listening() -> set[str]:
    """Ports of this machine at which somebody listens."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[1] for fields in lines if fields[3] == "0A"}
