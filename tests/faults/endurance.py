"""Twenty thousand steps: do memory, files and threads grow?"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.job import BATCH, CLI, IMAGES, METRICS, NOW_AND_THEN, command
from tests.faults.zygote import Zygote

INTERVAL = 0.25


@dataclass(frozen=True, kw_only=True)
class EnduranceResult:
    """Growth from step `first` to step `last`, by a straight line through what was seen in between.

    `kilobytes`: resident memory of the process at `first`; growth in bytes a step.
    """

    first: int
    last: int
    observations: int
    kilobytes: float
    bytes_per_step: float
    kilobytes_grown: float
    files_grown: float
    threads_grown: float
    seconds: float


def measure_endurance(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    steps: int = 20_000,
    first: int = 2_000,
    say: Callable[[str], None] = lambda _: None,
) -> EnduranceResult:
    """Train for `steps` and look at the process from step `first` on."""
    out, log = folder / "long", folder / "long.log"
    began = time.monotonic()
    epochs = -(-steps * BATCH // IMAGES)
    child = zygote.start(CLI, command(images, out, epochs=epochs, saving=NOW_AND_THEN), log=log)
    seen: list[tuple[int, float, int, int]] = []
    told = 0
    while child.alive():
        step = _newest_step(out / METRICS)
        if step is not None and first <= step <= steps:
            observed = _observe(child.pid)
            if observed is not None:
                seen.append((step, *observed))
        if step is not None and step >= told + 2_000:
            told = step
            say(f"step {step}: {seen[-1][1:] if seen else 'warming up'}")
        time.sleep(INTERVAL)
    code = child.wait()
    assert code == 0, log.read_text()[-1000:]
    table = np.array(seen, dtype=float)
    slopes = [float(np.polyfit(table[:, 0], table[:, column], 1)[0]) for column in (1, 2, 3)]
    span = float(table[-1, 0] - table[0, 0])
    return EnduranceResult(
        first=int(table[0, 0]),
        last=int(table[-1, 0]),
        observations=len(seen),
        kilobytes=float(table[0, 1]),
        bytes_per_step=slopes[0] * 1024,
        kilobytes_grown=slopes[0] * span,
        files_grown=slopes[1] * span,
        threads_grown=slopes[2] * span,
        seconds=time.monotonic() - began,
    )


def _observe(pid: int) -> tuple[float, int, int] | None:
    """Resident kilobytes, open files and threads of a process; None when it is gone."""
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return float(status["VmRSS"].split()[0]), files, int(status["Threads"])
    except (OSError, KeyError):
        return None


def _newest_step(metrics: Path) -> int | None:
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - 2000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return None
