"""What was measured, as docs/reliability.json and as the tables between the markers of docs/reliability.md.

A further measurement is a `Row` here and an entry in `tests.faults.__main__`.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
Figures = Mapping[str, Any]
EXAMPLES = 20
"""How many failures of a measurement are kept in words; all are counted."""
PACKAGES = ("torch", "transformers", "accelerate", "pytorch-lightning")


@dataclass(frozen=True)
class Row:
    """One line of the table: the number of the measurement, its key among the figures, what is asked, what is promised,
    and the figures in words.
    """

    number: int
    key: str
    question: str
    promise: str
    words: Callable[[Figures], str]


ROWS = (
    Row(
        1,
        "kills",
        "SIGKILL at random moments, then the same command: does every run end with the uninterrupted run's losses and "
        "weights, digit for digit?",
        "all",
        lambda f: (
            f"{f['identical']} of {f['runs']} runs; {f['kills']} kills, {f['inside_saves']} inside a save, "
            f"{f['unreadable']} runs unreadable"
        ),
    ),
    Row(
        2,
        "crashes",
        "A crash at every system call of a save, and of one before an exit: is a verified checkpoint found, and does "
        "the next save work?",
        "100 %",
        lambda f: f"{share(f['verified'], f['points'])} verified, {share(f['recovered'], f['points'])} recovered",
    ),
    Row(
        2,
        "power",
        "A power cut before every system call of a save, un-synced data and names lost in the worst ways: is a "
        "verified checkpoint found?",
        "100 %",
        lambda f: f"{share(f['verified'], f['states'])} states of the disk",
    ),
    Row(
        2,
        "power_first",
        "The same for the first save of a run: is it found from its end on?",
        "100 %",
        lambda f: f"{share(f['verified'], f['states'])} states of the disk",
    ),
    Row(
        2,
        "power_before_exit",
        "The same for a save before an exit",
        "100 %",
        lambda f: f"{share(f['verified'], f['states'])} states of the disk",
    ),
    Row(
        3,
        "errors",
        "ENOSPC, EIO, EROFS, EDQUOT at every system call of either, once or from then on: does a good checkpoint "
        "survive, and is the error told in one sentence?",
        "100 %",
        lambda f: (
            f"{share(f['survived'], f['points'])} survive, {share(f['told'], f['points'])} told, "
            f"{share(f['recovered'], f['points'])} recover"
        ),
    ),
    Row(
        3,
        "disk_full",
        "The same errors at random moments of whole runs; then the same command on a mended disk",
        "100 %",
        lambda f: f"{share(f['told'], f['runs'])} told, {share(f['identical'], f['runs'])} continue identically",
    ),
    Row(
        4,
        "damage",
        "Single-bit flips and truncations of a checkpoint's files: how many are loaded silently?",
        "0",
        lambda f: (
            f"{f['silent']} of {f['flips']} flips and {f['cuts']} truncations; {f['detected']} detected, "
            f"{f['harmless']} without effect"
        ),
    ),
    Row(
        5,
        "resuming",
        "Resuming after every step with several numbers of loader processes: how many different traces?",
        "1",
        lambda f: (
            f"{f['traces']}, in {f['runs']} runs ({f['steps']} steps, workers "
            f"{', '.join(map(str, f['workers']))}); {f['failed']} failed"
        ),
    ),
    Row(
        5,
        "samples",
        "Images left out of an epoch, or taken twice, in runs that were killed",
        "0 / 0",
        lambda f: (
            f"{f['missing']} / {f['repeated']} of {f['samples']:,} ({f['kills']} kills); order changed in "
            f"{f['order_changed']} runs"
        ),
    ),
    Row(
        6,
        "worlds",
        "The same batches on 1, 2 and 4 processes, and a number of processes that changes on the way: the largest "
        "relative difference of a loss?",
        "1e-9 in float64",
        lambda f: (
            f"float64 {max(f['double'].values()):.1g}, float32 {max(f['single'].values()):.1g} over {f['steps']} steps "
            "of pre-training and of fine-tuning with everything random switched on"
        ),
    ),
    Row(
        7,
        "losses",
        "One of two processes, or a data worker, is killed or stopped: seconds until all have ended, and is it named?",
        "30 s, all",
        lambda f: (
            "; ".join(f"{case} {seconds:g} s" for case, seconds in f["ended_after"].items())
            + f"; {f['named']} of {f['cases']} named, {f['left']} processes left behind"
        ),
    ),
    Row(
        7,
        "cycles",
        "Both processes of a run killed and started again, over and over: what is left, and is the run's result right?",
        "nothing, yes",
        lambda f: (
            f"{f['kills']} kills in {f['cycles']} starts: {f['refused']} stale locks, {f['ports']} ports, "
            f"{f['shared_memory']} pieces of shared memory, {f['processes']} processes left; the last start "
            f"{'ended as an uninterrupted run' if f['completed'] else 'FAILED'}"
        ),
    ),
    Row(
        7,
        "stops",
        "SIGTERM, SIGINT or SIGUSR1 to a run and its loader processes: seconds until it has ended, with code 75 and "
        "the command to continue, and does it continue identically?",
        "10 s, all",
        lambda f: (
            f"{f['median']:g} s in the median, {f['longest']:g} s at most; {f['stopped']} of {f['runs']} ended so, "
            f"{f['finished']} came to their end first; {f['identical']} of {f['runs']} identical"
        ),
    ),
    Row(
        8,
        "nonfinite",
        "Pixels, loss, gradient, weights or optimizer state not finite in one of two processes: corrupt files, hangs?",
        "0, 0",
        lambda f: (
            f"{f['corrupt_files']} corrupt files, {f['hung']} hangs in {f['runs']} runs; {f['completed']} ran to their "
            f"end, {f['rewinds']} of them after going back"
        ),
    ),
    Row(
        9,
        "malicious",
        "Files that would execute code, fill the memory, hang, or reach out of their folder: how many do?",
        "0",
        lambda f: f"{f['canaries']} canaries run; {f['refused']} of {f['cases']} files refused, or listed as bad",
    ),
    Row(
        10,
        "endurance",
        "Growth over a long run",
        "none",
        lambda f: (
            f"steps {f['first']:,}–{f['last']:,}: {f['kilobytes_grown']:+,.0f} kB on {f['kilobytes']:,.0f} "
            f"({f['bytes_per_step']:+.1f} bytes a step), {f['files_grown']:+.1f} files, "
            f"{f['threads_grown']:+.1f} threads"
        ),
    ),
)

CONTROLS = (
    Row(
        11,
        "control_verification",
        "verification of manifests: measurement 4",
        "loads silently",
        lambda f: f"{f['silent']} of {f['flips']} flips and {f['cuts']} truncations loaded silently",
    ),
    Row(
        11,
        "control_sync",
        "fsync: measurement 2, power cut",
        "loses checkpoints",
        lambda f: f"{f['states'] - f['verified']} of {f['states']} states without the right checkpoint",
    ),
    Row(
        11,
        "control_randomness_kills",
        "randomness by counter: measurement 1",
        "other traces",
        lambda f: f"{f['differing']} of {f['runs']} runs differ",
    ),
    Row(
        11,
        "control_randomness_resuming",
        "randomness by counter: measurement 5",
        "other traces",
        lambda f: f"{f['traces']} traces",
    ),
)
CONTENDERS = ("", "_transformers", "_lightning")
COMPARED: tuple[tuple[str, str, Callable[[Figures], str]], ...] = (
    ("kills", "kills (truly inside a save)", lambda f: f"{f['kills']} ({f['inside_saves']})"),
    ("kills", "killed runs that end identically", lambda f: f"{f['identical']} of {f['runs']}"),
    ("kills", "… with other losses or weights", lambda f: str(f["differing"])),
    ("kills", "… that the same command could not continue", lambda f: str(f["unreadable"])),
    ("kills", "… that started again from step 0 though there was a checkpoint", lambda f: str(f["from_scratch"])),
    ("damage", "bit flips and truncations", lambda f: f"{f['flips']} + {f['cuts']}"),
    ("damage", "… detected", lambda f: str(f["detected"])),
    ("damage", "… without effect on what is loaded", lambda f: str(f["harmless"])),
    ("damage", "… loaded silently", lambda f: str(f["silent"])),
)


def share(part: int, whole: int) -> str:
    """A count of a whole and its per cent.

    >>> share(30, 40)
    '30 of 40 (75.0 %)'
    """
    return f"{part} of {whole} ({100 * part / max(1, whole):.1f} %)"


def machine() -> str:
    """Processor, cores, system and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    processor = names[0] if names else platform.machine()
    return f"{processor}, {len(names)} cores, Python {platform.python_version()}, {', '.join(versions)}"


def record(key: str, result: Any, seconds: float, *, docs: Path = DOCS) -> None:
    """Keep one result (a dataclass) among the figures, and write the report anew."""
    file = docs / "reliability.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    values = asdict(result)
    failures = values.get("failures", ())
    if len(failures) > EXAMPLES:
        values["failures"] = [*failures[:EXAMPLES], f"… and {len(failures) - EXAMPLES} more"]
    figures[key] = {
        **values,
        "measured": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "seconds": round(seconds, 1),
    }
    file.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    write_report(figures, docs / "reliability.md")


def write_report(figures: Mapping[str, Figures], page: Path) -> None:
    """Put the tables between their markers; the rest of the page is written by hand."""
    text = page.read_text()
    for name, lines in (
        ("figures", _figures(figures)),
        ("controls", _controls(figures)),
        ("comparison", _comparison(figures)),
    ):
        before, rest = text.split(BEGIN.format(name))
        _, after = rest.split(END.format(name))
        text = "\n".join([f"{before}{BEGIN.format(name)}", *lines, f"{END.format(name)}{after}"])
    page.write_text(text)


def _figures(figures: Mapping[str, Figures]) -> list[str]:
    lines = ["| | measurement | promised | measured |", "|---|---|---|---|"]
    lines += [
        f"| {row.number} | {row.question} | {row.promise} | {row.words(figures[row.key])} |"
        for row in ROWS
        if row.key in figures
    ]
    failures = [failure for row in ROWS for failure in _shortened(figures.get(row.key, {}))]
    if failures:
        lines += ["", "What went wrong, as it was reported:", "", *(f"- {failure}" for failure in failures)]
    return [*_taken(figures), "", *lines]


def _shortened(figures: Figures) -> list[str]:
    """The first failures of a measurement, and how many more there are."""
    failures = [str(failure).replace("\n", " ")[:200] for failure in figures.get("failures", [])]
    return failures[:5] + ["… and more of this measurement"] * (len(failures) > 5)


def _controls(figures: Mapping[str, Figures]) -> list[str]:
    lines = ["| switched off: what must notice | it then | measured |", "|---|---|---|"]
    return lines + [
        f"| {row.question} | {row.promise} | {row.words(figures[row.key])} |" for row in CONTROLS if row.key in figures
    ]


def _comparison(figures: Mapping[str, Figures]) -> list[str]:
    names = {suffix: f"kills{suffix}" for suffix in CONTENDERS}
    present = [suffix for suffix, key in names.items() if key in figures]
    lines = [
        f"| | {' | '.join(figures[names[suffix]]['contender'] for suffix in present)} |",
        f"|---|{'---|' * len(present)}",
    ]
    for key, question, words in COMPARED:
        cells = [words(figures[key + suffix]) if key + suffix in figures else "–" for suffix in present]
        lines.append(f"| {question} | {' | '.join(cells)} |")
    lines.append("")
    for suffix in present:
        its = figures[names[suffix]]
        lines.append(f"{its['contender']}: {its['settings']}.")
    errors = {suffix: figures[names[suffix]]["errors"] for suffix in present}
    for suffix, messages in errors.items():
        kinds = sorted({message.split(":", 1)[0] for message in messages})
        if kinds:
            lines.append(f"Errors when {figures[names[suffix]]['contender']} was started again: {', '.join(kinds)}.")
    return lines


def _taken(figures: Mapping[str, Figures]) -> list[str]:
    """When and where, once for each machine and day."""
    stamps: dict[str, float] = {}
    for its in figures.values():
        stamp = f"Measured on {its['measured']}: {its['machine']}"
        stamps[stamp] = stamps.get(stamp, 0.0) + its["seconds"]
    return [f"{stamp}; {seconds / 60:.0f} minutes." for stamp, seconds in stamps.items()]
