"""Flip single bits in a checkpoint, cut files short, and see whether it is still taken for what was written."""

import copy
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tests.faults import saving
from tests.faults.job import CHECKPOINTS, openmae
from tests.faults.zygote import Zygote

Verdict = Literal["detected", "harmless", "silent"]
AT_LEAST = 5
"""Flips in each file, however small it is."""


class Injury(NamedTuple):
    """A bit of a file that is flipped, or the length that a file is cut to."""

    file: str
    kind: Literal["flip", "cut"]
    place: int


@dataclass(frozen=True, kw_only=True)
class DamageResult:
    """What became of damaged checkpoints: `detected` (an error, or passed over), `harmless` (loads bit for bit what was
    written), `silent` (loads something else without a word).
    """

    contender: str
    settings: str
    flips: int
    cuts: int
    detected: int
    harmless: int
    silent: int
    injured: dict[str, int]
    failures: tuple[str, ...]


def injuries(folder: Path, *, flips: int, cuts: int, seed: int) -> list[Injury]:
    """Seeded bits and lengths over all files, by size, a few in each."""
    rng = random.Random(seed)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: size for name, size in sizes.items() if size}
    each = [name for name in sizes for _ in range(min(AT_LEAST, flips // (2 * len(sizes)) or 1))][:flips]
    drawn = rng.choices(list(sizes), weights=list(sizes.values()), k=flips - len(each))
    found = [Injury(name, "flip", rng.randrange(8 * sizes[name])) for name in each + drawn]
    names = list(sizes)[:cuts] + rng.choices(list(sizes), weights=list(sizes.values()), k=max(0, cuts - len(sizes)))
    return found + [Injury(name, "cut", rng.randrange(sizes[name])) for name in names]


@contextmanager
def injured(folder: Path, injury: Injury) -> Iterator[None]:
    """The folder with that injury; healed afterwards."""
    path = folder / injury.file
    before = path.read_bytes()
    after = bytearray(before)
    if injury.kind == "flip":
        after[injury.place // 8] ^= 1 << injury.place % 8
    else:
        del after[injury.place :]
    path.write_bytes(after)
    try:
        yield
    finally:
        path.write_bytes(before)


def count(contender: str, settings: str, verdicts: list[tuple[Injury, Verdict]]) -> DamageResult:
    """The result of these verdicts."""
    totals = Counter(verdict for _, verdict in verdicts)
    return DamageResult(
        contender=contender,
        settings=settings,
        flips=sum(injury.kind == "flip" for injury, _ in verdicts),
        cuts=sum(injury.kind == "cut" for injury, _ in verdicts),
        detected=totals["detected"],
        harmless=totals["harmless"],
        silent=totals["silent"],
        injured=dict(Counter(injury.file for injury, _ in verdicts)),
        failures=tuple(f"{injury} is loaded silently" for injury, verdict in verdicts if verdict == "silent"),
    )


def measure_damage(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    flips: int,
    cuts: int,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> DamageResult:
    """Damage the newest checkpoint of a finished run in each of these ways, and ask for the newest verified one."""
    from openmae.checkpoints.reading import newest_verified, read_checkpoint
    from openmae.reporter import Reporter, use

    contender, out = openmae(images), folder / "run"
    code = zygote.run(contender.target, contender.arguments(out), log=folder / "log")
    assert code == 0, (folder / "log").read_text()
    checkpoints = out / CHECKPOINTS
    newest = newest_verified(checkpoints)
    assert newest is not None
    written = copy.deepcopy(read_checkpoint(newest))  # tensors that are read may be views of the file
    verdicts: list[tuple[Injury, Verdict]] = []
    for injury in injuries(newest, flips=flips, cuts=cuts, seed=seed):
        with injured(newest, injury), use(Reporter(quiet=True)) as reporter:
            try:
                found = newest_verified(checkpoints)
                verdict: Verdict
                if found != newest:
                    verdict = "detected" if found is not None and reporter.said else "silent"
                else:
                    verdict = "harmless" if saving.same(read_checkpoint(newest), written) else "silent"
            except Exception:
                verdict = "detected"  # loudly, though not as it should be
        verdicts.append((injury, verdict))
    shutil.rmtree(out)
    result = count(contender.name, "newest of three checkpoints; the next one must be found", verdicts)
    say(f"{result.flips} flips, {result.cuts} cuts: {result.detected} detected, {result.silent} loaded silently")
    return result
