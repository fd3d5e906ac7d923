"""The runs of a report as it names them, and a line for each in the table of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from openmae.reporter import plain
from openmae.reporting.report.measured import number
from openmae.reporting.run_files import RunFiles


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in the table of several: its name, its folder, its state, and its last figures."""

    name: str
    folder: str
    state: str
    samples: str
    loss: str


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Short names of the runs, which differ."""
    names: list[str] = []
    for run in runs:
        name = plain(run.name)
        longer = plain(str(run.path))
        names.append(name if name not in names else longer if longer not in names else f"{longer} ({len(names) + 1})")
    return names


def title_of(names: Sequence[str]) -> str:
    """The names in one line."""
    if len(names) > 4:
        return f"{names[0]} and {len(names) - 1} other runs"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def line_of(run: RunFiles, name: str) -> RunLine:
    """The line of a run."""
    last = next((record for record in reversed(run.metrics) if number(record.get("loss")) is not None), {})
    loss, samples = number(last.get("loss")), number(last.get("samples"))
    return RunLine(
        name=name,
        folder=str(run.path),
        state=run.state,
        samples="" if samples is None else f"{samples:,.0f}",
        loss="" if loss is None else f"{loss:.4g}",
    )


def seconds_of(run: RunFiles) -> float | None:
    """How long the training took, from its own speed: a run that was stopped and continued did not take the nights."""
    samples, seconds = 0.0, 0.0
    for record in run.metrics:
        now, speed = number(record.get("samples")), number(record.get("images_per_second"))
        if now is not None and speed and now > samples:
            seconds += (now - samples) / speed
            samples = now
    return seconds or None
