"""Verbs that look at runs from their files, while they train and afterwards."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from openmae.recipes.constraints import POSITIVE
from openmae.recipes.values import Places, as_text
from openmae.verbs.verb import verb

if TYPE_CHECKING:
    from openmae.reporting.run_table import RunSummary


@verb
def watch(runs: Places, *, every: Annotated[float, POSITIVE] = 5.0, once: bool = False) -> list[dict[str, Any]]:
    """Show runs that train elsewhere, live, until all of them have ended; Ctrl-C ends the watching only.

    Several runs that do not fit on the terminal get a line each. Without a terminal there is a line for each news.

    Args:
        runs: Run folders, or folders that hold some: here, on a shared disk, or at an address such as s3://bucket/runs.
        every: Seconds between two looks.
        once: Print what is known now, and end.
    """
    from openmae.reporting.watching import watch_runs

    places = as_text(runs)
    found = watch_runs((places,) if isinstance(places, str) else places, every=every, once=once)
    return [dataclasses.asdict(frame) for frame in found]


@verb
def runs(folder: str | Path = "runs", *, sort: str = "") -> "list[RunSummary]":
    """List the runs below a folder: state, progress and last figures; --sort puts the best by a figure first.

    A run is finished (it has its results), running (a process has locked its folder, or its files change), stopped (it
    was asked to, and everything is saved), or crashed.

    Args:
        folder: A folder, or an address such as s3://bucket/runs.
        sort: A figure of metrics.jsonl, such as loss, top1, knn or quality/rank; the newest runs come first when not
            given.
    """
    from openmae.reporting.run_table import list_runs

    return list_runs(folder, sort=sort)
