"""`python -m tests.faults [--only 1 4 …] [--quick]`: inject faults, and write what happened to docs/reliability.md."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import (
    contenders,
    controls,
    damage,
    diskfull,
    endurance,
    job,
    kills,
    malicious,
    nonfinite,
    powerloss,
    processes,
    resuming,
    saving,
    stops,
    syscalls,
    worlds,
)
from tests.faults.job import STEPS
from tests.faults.report import DOCS, record
from tests.faults.zygote import OPENMAE, Zygote

COMPARISON = 12
"""The number under which the comparison is asked for."""


@dataclass(frozen=True)
class Bench:
    """Where and how the measurements are made. `size` is the whole number of trials, or a few when quick."""

    zygote: Zygote
    images: Path
    folder: Path
    quick: bool

    def size(self, whole: int, few: int) -> int:
        return few if self.quick else whole


def say(message: str) -> None:
    print(message, flush=True)


def _kills(contender: Callable[[Path], job.Contender]) -> Callable[[Bench], Any]:
    return lambda bench: kills.measure_kills(
        bench.zygote, contender(bench.images), bench.folder, trials=bench.size(100, 5), say=say
    )


def _damage(contender: Callable[[Path], job.Contender]) -> Callable[[Bench], Any]:
    return lambda bench: contenders.measure_damage(
        bench.zygote, contender(bench.images), bench.folder, flips=bench.size(500, 20), cuts=bench.size(100, 5)
    )


def _own_damage(bench: Bench) -> Any:
    flips, cuts = bench.size(500, 50), bench.size(100, 10)
    return damage.measure_damage(bench.zygote, bench.images, bench.folder, flips=flips, cuts=cuts, say=say)


def _unverified(bench: Bench) -> Any:
    with controls.unverified():
        return _own_damage(bench)


def _resuming(bench: Bench) -> Any:
    steps = range(1, STEPS + 1, bench.size(1, 12))
    return resuming.measure_resuming(bench.zygote, bench.images, bench.folder, steps=steps, say=say)


# (number, key among the figures, the measurement); the rows of the report are in tests.faults.report.
MEASUREMENTS: tuple[tuple[int, str, Callable[[Bench], Any]], ...] = (
    (2, "crashes", lambda bench: syscalls.measure_crashes(bench.zygote, bench.folder, say=say)),
    (2, "power", lambda bench: powerloss.measure_power_loss(bench.zygote, bench.folder, say=say)),
    (2, "power_first", lambda bench: powerloss.measure_power_loss(bench.zygote, bench.folder, first=True, say=say)),
    (
        2,
        "power_before_exit",
        lambda bench: powerloss.measure_power_loss(bench.zygote, bench.folder, mode=saving.BEFORE_EXIT, say=say),
    ),
    (
        3,
        "errors",
        lambda bench: syscalls.measure_errors(bench.zygote, bench.folder, trials=40 if bench.quick else None, say=say),
    ),
    (
        3,
        "disk_full",
        lambda bench: diskfull.measure_disk_full(
            bench.zygote, bench.images, bench.folder, runs=bench.size(40, 4), say=say
        ),
    ),
    (4, "damage", _own_damage),
    (1, "kills", _kills(job.openmae)),
    (
        5,
        "samples",
        lambda bench: resuming.measure_samples(
            bench.zygote, bench.images, bench.folder, runs=bench.size(10, 2), say=say
        ),
    ),
    (5, "resuming", _resuming),
    (11, "control_verification", _unverified),
    (
        11,
        "control_sync",
        lambda bench: powerloss.measure_power_loss(bench.zygote, bench.folder, hooks=[controls.NO_SYNC], say=say),
    ),
    (
        11,
        "control_randomness_kills",
        lambda bench: kills.measure_kills(
            bench.zygote,
            job.openmae(bench.images),
            bench.folder,
            trials=5,
            hooks=(controls.STATEFUL_RANDOMNESS,),
            say=say,
        ),
    ),
    (
        11,
        "control_randomness_resuming",
        lambda bench: resuming.measure_resuming(
            bench.zygote,
            bench.images,
            bench.folder,
            steps=(5, 17, 29),
            workers=(0, 2),
            hooks=(controls.STATEFUL_RANDOMNESS,),
            say=say,
        ),
    ),
    (6, "worlds", lambda bench: worlds.measure_worlds(bench.zygote, steps=bench.size(100, 20))),
    (
        7,
        "losses",
        lambda bench: processes.measure_losses(
            bench.zygote, bench.images, bench.folder, patience=bench.size(20, 5), say=say
        ),
    ),
    (
        7,
        "cycles",
        lambda bench: processes.measure_cycles(
            bench.zygote, bench.images, bench.folder, cycles=bench.size(50, 3), say=say
        ),
    ),
    (
        7,
        "stops",
        lambda bench: stops.measure_stops(bench.zygote, bench.images, bench.folder, runs=bench.size(30, 6), say=say),
    ),
    (8, "nonfinite", lambda bench: nonfinite.measure_nonfinite(bench.zygote, bench.images, bench.folder, say=say)),
    (9, "malicious", lambda bench: malicious.measure_malicious(bench.folder)),
    (
        10,
        "endurance",
        lambda bench: endurance.measure_endurance(
            bench.zygote, bench.images, bench.folder, steps=bench.size(20_000, 4_000), say=say
        ),
    ),
    (COMPARISON, "damage_transformers", _damage(contenders.transformers_trainer)),
    (COMPARISON, "damage_lightning", _damage(contenders.lightning)),
    (COMPARISON, "kills_transformers", _kills(contenders.transformers_trainer)),
    (COMPARISON, "kills_lightning", _kills(contenders.lightning)),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="numbers or keys of the measurements to make")
    parser.add_argument("--quick", action="store_true", help="a few trials of each; the report is left as it is")
    asked = parser.parse_args()
    known = {str(number) for number, _, _ in MEASUREMENTS} | {key for _, key, _ in MEASUREMENTS}
    if unknown := [name for name in asked.only if name not in known]:
        parser.error(f"there is no measurement {unknown[0]}; choose from {', '.join(sorted(known))}")
    chosen = [entry for entry in MEASUREMENTS if not asked.only or {str(entry[0]), entry[1]} & set(asked.only)]
    if any(
        key in ("crashes", "power", "power_first", "power_before_exit", "errors", "disk_full", "control_sync")
        for _, key, _ in chosen
    ):
        reason = syscalls.unavailable()
        if reason is not None:
            say(f"measurements 2 and 3 and a control need strace: {reason}")
            return 1
    imports = contenders.IMPORTS if any(number == COMPARISON for number, _, _ in chosen) else OPENMAE
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        images = job.write_images(folder / "images")
        with Zygote(imports) as zygote:
            for number, key, measure in chosen:
                say(f"--- {number} {key}")
                here = folder / key
                here.mkdir()
                before = time.monotonic()
                result = measure(Bench(zygote, images, here, asked.quick))
                seconds = time.monotonic() - before
                say(f"{result}\n{seconds:.1f} seconds")
                if not asked.quick:
                    record(key, result, seconds, docs=DOCS)
                shutil.rmtree(here)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
