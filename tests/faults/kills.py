"""Kill a run at random moments, some of them inside a save, continue it, and compare what it did."""

import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.job import Contender, Trace, losses, trace, uninterrupted
from tests.faults.zygote import Child, Zygote

KILLS_OF_A_RUN = (1, 1, 1, 4)
"""As many at most, drawn for each run."""
INSIDE_SHARE = 0.3
PATIENT_RUNS = 10
"""How many more are killed at most because too few kills were inside a save."""
DEEPEST = 0.012
"""Seconds after the start of a save at which a kill is aimed at most; a save of the tiny job takes about as long."""


@dataclass(frozen=True, kw_only=True)
class KillResult:
    """What became of `runs` that were killed and started again with the same command; one that ended before it could be
    killed counts only when it went wrong.

    `lines_differing` counts log lines that disagree with the uninterrupted run, those included which a restart dropped.
    """

    contender: str
    settings: str
    kills: int
    inside_saves: int
    runs: int
    identical: int
    differing: int
    unreadable: int
    from_scratch: int
    lines_differing: int
    errors: tuple[str, ...]


@dataclass
class _Tally:
    kills: int = 0
    inside: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("identical", "differing", "unreadable"), 0))
    from_scratch: int = 0
    lines_differing: int = 0
    errors: list[str] = field(default_factory=list)


def measure_kills(
    zygote: Zygote,
    contender: Contender,
    folder: Path,
    *,
    trials: int,
    seed: int = 0,
    hooks: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> KillResult:
    """Kill `trials` runs, once or more often, and count their outcomes.

    At least three tenths as many kills as runs are truly inside a save.
    """
    rng = random.Random(seed)
    before = time.monotonic()
    expected = uninterrupted(zygote, contender, folder, hooks=hooks)
    duration = time.monotonic() - before
    tally, wanted, runs = _Tally(), round(INSIDE_SHARE * trials), 0
    while sum(tally.outcomes.values()) < trials or (tally.inside < wanted and runs < trials + PATIENT_RUNS):
        out = folder / f"killed-{runs:03d}"
        runs += 1
        allowed = rng.choice(KILLS_OF_A_RUN)
        before_kills = tally.kills
        outcome = _one_run(
            zygote, contender, out, expected, tally, rng, allowed=allowed, wanted=wanted, duration=duration, hooks=hooks
        )
        tally.outcomes[outcome] += tally.kills > before_kills or outcome != "identical"
        say(f"{contender.name}: run {runs} {outcome}; {tally.kills} kills, {tally.inside} inside a save")
        shutil.rmtree(out, ignore_errors=True)
    return KillResult(
        contender=contender.name,
        settings=contender.settings,
        kills=tally.kills,
        inside_saves=tally.inside,
        runs=sum(tally.outcomes.values()),
        **tally.outcomes,
        from_scratch=tally.from_scratch,
        lines_differing=tally.lines_differing,
        errors=tuple(sorted(set(tally.errors))),
    )


def _one_run(
    zygote: Zygote,
    contender: Contender,
    out: Path,
    expected: Trace,
    tally: _Tally,
    rng: random.Random,
    *,
    allowed: int,
    wanted: int,
    duration: float,
    hooks: tuple[str, ...],
) -> str:
    """Kill one run up to `allowed` times, then let it end; returns how its trace compares."""
    log = out.with_suffix(".log")
    right = dict(expected.losses)
    for kill in range(allowed + 1):
        saved, known, leftover = contender.saved(out), len(contender.starts(out)), contender.unfinished(out)
        child = zygote.start(contender.target, contender.arguments(out), log=log, hooks=hooks)
        if kill < allowed:
            if tally.inside < wanted and rng.random() < 0.6:
                _wait_for_save(contender, out, child, rng)
            else:
                time.sleep(rng.uniform(0, duration))
            child.kill()
        code = child.wait()
        tally.lines_differing += sum(right.get(step) != loss for step, loss in losses(out))
        if code == -9 and kill < allowed:
            tally.kills += 1
            tally.inside += contender.unfinished(out) not in (leftover, frozenset())
            continue
        if code != 0:
            tally.errors.append(_last_line(log))
            return "unreadable"
        starts = contender.starts(out)
        tally.from_scratch += saved > 0 and len(starts) > known and starts[-1] == 0
        break
    return "identical" if trace(out, contender.weights) == expected else "differing"


def _wait_for_save(contender: Contender, out: Path, child: Child, rng: random.Random) -> None:
    """Return a random moment after some save has begun, or when the run has ended.

    What a former kill left behind is gone, and so not taken for a save, once one has been completed.
    """
    after, pause = contender.saved(out), rng.uniform(0, 0.4)
    while contender.saved(out) <= after and child.alive():
        time.sleep(0.001)
    time.sleep(pause)
    before = contender.unfinished(out)
    while contender.unfinished(out) in (before, frozenset()) and child.alive():
        pass
    time.sleep(rng.uniform(0, DEEPEST))


def _last_line(log: Path) -> str:
    """What the command said last, without what differs between runs."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    line = lines[-1].replace(f"{log.parent}/", "") if lines else "no message"
    return re.sub(r"\d+", "N", line)[:300]
