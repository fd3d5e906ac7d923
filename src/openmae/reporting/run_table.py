"""Runs beside each other: a table of their states, their last figures, and the best by any of them."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from openmae.errors import UserError
from openmae.reporter import plain
from openmae.reporting.run_files import Metrics, RunFiles, read_run
from openmae.reporting.run_finding import find_runs
from openmae.reporting.watching import frame_of
from openmae.terminal.panel import STYLES, State, share_text

# Of a figure with one of these words in its name, less is better.
LESS_IS_BETTER = ("loss", "error", "dead", "waiting", "gradient_norm", "own_mean", "nearest", "smooth", "constant")
NO_FIGURES = {"step", "epoch", "samples"}


class BestFigure(TypedDict):
    """The best value of a figure in a run, and the step after which it was measured."""

    metric: str
    value: float
    step: int


class RunSummary(TypedDict):
    """A run in the table of all."""

    path: str
    name: str
    stage: str
    recipe: str
    state: State
    epoch: float
    epochs: float
    figures: dict[str, float]
    """The newest of each figure of metrics.jsonl."""
    best: BestFigure | None
    """By the figure that was asked for; None where none was, or the run has none."""
    ending: str
    """Why it has stopped or crashed, where its log says so."""
    started: str | None
    """When its newest process started."""
    updated: str | None
    """When its files were last written."""


def list_runs(folder: str | Path, *, sort: str = "") -> list[RunSummary]:
    """Every run below a folder, the newest first, or the best first by a figure.

    Args:
        folder: a folder, or a URL such as s3://bucket/runs.
        sort: a figure of metrics.jsonl; "knn" stands for "quality/knn".

    Raises:
        UserError: when there are no runs, or none has the figure.
    """
    runs = [read_run(path) for path in find_runs(folder)]
    if not sort:
        runs.sort(key=lambda run: -(run.updated or math.inf))
        return [summarise(run) for run in runs]
    known = {name for run in runs for line in run.metrics for name in line} - NO_FIGURES
    metric = sort if sort in known else f"quality/{sort}"
    if metric not in known:
        raise UserError(
            f"no run in {folder} has the figure {sort!r}; "
            + (f"they have {', '.join(sorted(known))}" if known else "none of them has any figure yet")
        )
    sign = 1 if less_is_better(metric) else -1
    found = [summarise(run, metric) for run in runs]
    return sorted(found, key=lambda one: (one["best"] is None, sign * one["best"]["value"] if one["best"] else 0.0))


def less_is_better(metric: str) -> bool:
    """Whether a smaller value of a figure is a better one: of losses and errors, not of accuracies."""
    return any(word in metric for word in LESS_IS_BETTER)


def summarise(run: RunFiles, metric: str = "") -> RunSummary:
    """A run for the table, with its best value of a figure."""
    frame = frame_of(run)
    return {
        "path": run.path,
        "name": run.name,
        "stage": run.stage,
        "recipe": str(run.recipe.get("name", "")),
        "state": run.state,
        "epoch": frame.epoch,
        "epochs": frame.epochs,
        "figures": {name: value for name, value in frame.figures.items() if name not in NO_FIGURES},
        "best": best(run.metrics, metric) if metric else None,
        "ending": frame.ending,
        "started": _when(run.started),
        "updated": _when(run.updated),
    }


def best(lines: Sequence[Metrics], metric: str) -> BestFigure | None:
    """The best value of a figure; None where there is none that is finite."""
    found = [(line[metric], line["step"]) for line in lines if math.isfinite(line.get(metric, math.nan))]
    if not found:
        return None
    value, step = (min if less_is_better(metric) else max)(found, key=lambda one: one[0])
    return {"metric": metric, "value": value, "step": int(step)}


class RunsTable:
    """The runs, one a line, with a column for each of the usual figures that any of them has, as far as they fit."""

    def __init__(self, runs: Sequence[RunSummary]) -> None:
        self._columns = dict(_columns(runs))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        known = [heading for heading, cells in self._columns.items() if any(cell.plain for cell in cells)]
        headings = [heading for heading in known if heading not in DISPENSABLE]
        for more in DISPENSABLE:
            wider = [heading for heading in known if heading in (*headings, more)]
            width = console.measure(self._table(wider), options=options.update(width=WIDEST)).maximum
            headings = wider if width <= options.max_width else headings
        yield self._table(headings)

    def _table(self, headings: Sequence[str]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for heading in headings:
            words = heading in WORDS
            table.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for row in zip(*(self._columns[heading] for heading in headings), strict=True):
            table.add_row(*row)
        return table


WIDEST = 1000
WORDS = ("run", "state", "recipe")
# The columns that are left out where they do not fit; the first ones stay longest.
DISPENSABLE = ("recipe", "mAP", "R²", "kNN", "held out", "changed", "probe", "rank")
FIGURES: Mapping[str, str] = {
    "loss": "loss",
    "held out": "quality/loss",
    "rank": "quality/rank",
    "kNN": "quality/knn",
    "probe": "quality/probe",
    "top-1": "top1",
    "mAP": "mean_average_precision",
    "R²": "r2",
}
"""The columns of figures."""


def _columns(runs: Sequence[RunSummary]) -> Iterator[tuple[str, list[Text]]]:
    above = _common_folder([run["path"] for run in runs])
    yield "run", [Text(plain(run["path"][len(above) :])) for run in runs]
    yield "state", [Text(run["state"], style=STYLES[run["state"]]) for run in runs]
    yield "recipe", [Text(plain(f"{run['stage']} {run['recipe']}")) for run in runs]
    yield "done", [Text(share_text(run["epoch"] / run["epochs"] if run["epochs"] else 0.0)) for run in runs]
    for heading, key in FIGURES.items():
        yield heading, [Text(_figure(key, run["figures"])) for run in runs]
    asked = next((run["best"]["metric"] for run in runs if run["best"]), "")
    found = [run["best"] for run in runs]
    yield f"best {asked.removeprefix('quality/')}", [Text(f"{one['value']:.4g}" if one else "") for one in found]
    yield "at step", [Text(f"{one['step']:,}" if one else "") for one in found]
    yield "changed", [Text(ago(run["updated"]), style="dim") for run in runs]


def _common_folder(paths: Sequence[str]) -> str:
    """What all paths begin with, up to a slash.

    >>> _common_folder(["runs/a/linear", "runs/ab"]), _common_folder(["s3://b/runs/a"])
    ('runs/', 's3://b/runs/')
    """
    parts = [path.rstrip("/").split("/")[:-1] for path in paths]
    shared = 0
    while parts and all(shared < len(one) and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    return "".join(f"{part}/" for part in parts[0][:shared]) if parts else ""


def _figure(name: str, figures: Mapping[str, float]) -> str:
    if name not in figures:
        return ""
    return f"{figures[name]:.4f}" if less_is_better(name) or name == "r2" else f"{figures[name]:.1f}"


def ago(when: str | None) -> str:
    """How long ago a moment was, in its largest unit."""
    if when is None:
        return ""
    seconds = max(0.0, time.time() - datetime.fromisoformat(when).timestamp())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
