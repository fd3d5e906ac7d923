"""The report: facts of runs are gathered, laid out, and written as report.html and report.md."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

from openmae.errors import UserError
from openmae.files import write_text
from openmae.reporting.report.classes import Classes, Mistakes, classes_of, has_classifier, mistakes_of
from openmae.reporting.report.curves import Log, axes, curves
from openmae.reporting.report.data_set import data_set, places_of
from openmae.reporting.report.map import map_chart
from openmae.reporting.report.measured import (
    Measured,
    measurements_at,
    measurements_beside,
    measures,
    most_telling,
    table,
)
from openmae.reporting.report.missing import missing_parts
from openmae.reporting.report.page import Page, as_html, as_markdown
from openmae.reporting.report.published import published_curve
from openmae.reporting.report.reproducing import repeating
from openmae.reporting.report.run_lines import line_of, names_of, seconds_of, title_of
from openmae.reporting.report.seeing import Seen, attempt, see
from openmae.reporting.report.summary import summarise
from openmae.reporting.run_files import RunFiles, read_run

HTML = "report.html"
IMAGES = 400
"""Images that the network is run over."""


class ReportResult(TypedDict):
    """Where the report is, how large it is, and which parts it has; `missing` has a command for each of the others."""

    path: str
    bytes: int
    markdown: str
    runs: list[str]
    sections: list[str]
    missing: list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to report.

    Args:
        runs: run folders, and JSON files of measurements.
        out: the HTML file; report.html in the folder of the first run when None.
        data: images to look at instead of those that the run names.
        beside: published logs to lay under the curves, zoo:NAME.
        images: how many images the network is run over; 0 for none.
        seed: of the choice of the images, and of their masks.
    """

    runs: Sequence[str]
    out: Path | None = None
    data: str | tuple[str, ...] | None = None
    beside: Sequence[str] = ()
    images: int = IMAGES
    seed: int = 0


def write_report(wanted: Wanted) -> ReportResult:
    """Write the report of runs, and the Markdown summary beside it.

    Raises:
        UserError: when there is no run, a log is not published, or the file cannot be written.
    """
    runs, named = _read(wanted.runs)
    stage = "pretrain" if any(run.stage == "pretrain" for run in runs) else runs[0].stage
    chosen = [run for run in runs if run.stage == stage]
    first, folder = chosen[0], Path(str(chosen[0].path))
    out = _place(wanted, first)
    measured = [_measurements(run, named, alone=len(chosen) == 1) for run in chosen]
    rows = table(measured)
    data = _named(wanted) or places_of(first.recipe)
    telling = most_telling(measured[0])
    seen = see(folder, data, images=wanted.images, seed=wanted.seed) if stage == "pretrain" else Seen()
    brief = data_set(first.recipe, first.results, folder)
    page_classes, mistakes = _classes(telling, data, wanted)
    chart, chart_axes, note = _curves(chosen, wanted.beside)
    names = names_of(chosen)
    page = Page(
        title=title_of(names),
        made=f"Made by openmae {metadata.version('openmae')} on {time.strftime('%Y-%m-%d %H:%M')}.",
        runs=[line_of(run, name) for run, name in zip(chosen, names, strict=True)],
        summary=summarise(
            first,
            images=sum(images for _, images, used in brief.splits if used) or None,
            parameters=seen.parameters,
            seconds=seconds_of(first),
            rows=rows,
        ),
        curves=chart,
        axes=chart_axes,
        beside=note,
        frames=seen.frames,
        frames_note=seen.frames_note,
        looks=seen.looks,
        sample=seen.sample,
        map=None if seen.looks is None or seen.looks.map is None else map_chart(seen.looks.map),
        rows=rows,
        classes=page_classes,
        mistakes=mistakes,
        data=brief,
        repeating=repeating([(Path(str(run.path)), run.recipe) for run in chosen], first.environment),
        missing=list(
            missing_parts(
                first,
                measured[0],
                classes=page_classes is not None,
                mistakes=mistakes is not None or not wanted.images,
                pictures=seen.looks is not None,
            )
        ),
    )
    html, markdown = as_html(page), out.with_suffix(".md")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, html)
        write_text(markdown, as_markdown(page, out.name))
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); give --out a file in a folder that you may write"
        ) from error
    return {
        "path": str(out),
        "bytes": len(html.encode()),
        "markdown": str(markdown),
        "runs": [str(run.path) for run in chosen],
        "sections": page.sections,
        "missing": [{"what": one.what, "command": one.command} for one in page.missing],
    }


def _read(places: Sequence[str]) -> tuple[list[RunFiles], list[Measured]]:
    """The runs that were named, and the measurements in those folders and files."""
    files = [place for place in places if place.endswith(".json")]
    measured = [one for place in places for one in measurements_at(Path(place))]
    runs = [read_run(place) for place in places if place not in files]
    if empty := [place for place in files if not measurements_at(Path(place))]:
        raise UserError(f"{empty[0]} holds no measurement; give what `openmae knn … --json` printed")
    if not runs:
        raise UserError("which run? give the folder of a training: openmae report RUN")
    return runs, measured


def _place(wanted: Wanted, first: RunFiles) -> Path:
    if wanted.out is not None:
        if wanted.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--out {wanted.out} is no HTML file; give a name that ends in .html")
        return wanted.out
    if "://" in str(first.path):
        raise UserError(f"a report cannot be written to {first.path}; give --out a file on this machine")
    return Path(str(first.path)) / HTML


def _measurements(run: RunFiles, named: Sequence[Measured], *, alone: bool) -> list[Measured]:
    """The measurements of a run: beside it, and named ones that are of it, or of no other run."""
    if run.stage != "pretrain":
        return [
            one for one in named if one.folder is not None and one.folder.resolve() == Path(str(run.path)).resolve()
        ]
    folder = Path(str(run.path))
    given = [one for one in named if alone or measures(one, folder)]
    beside = [one for one in measurements_beside(folder) if one.result not in [other.result for other in given]]
    return [*beside, *given]


def _named(wanted: Wanted) -> tuple[str, ...]:
    return (wanted.data,) if isinstance(wanted.data, str) else wanted.data or ()


def _classes(telling: Measured | None, data: tuple[str, ...], wanted: Wanted) -> tuple[Classes | None, Mistakes | None]:
    if telling is None:
        return None, None
    classes, folder = classes_of(telling), telling.folder
    if folder is None or not wanted.images or not has_classifier(folder):
        return classes, None
    places = _named(wanted) or places_of(read_run(folder).recipe) or data
    if not places:
        return classes, None
    return classes, attempt("the mistakes", lambda: mistakes_of(folder, places, seed=wanted.seed))


def _curves(runs: Sequence[RunFiles], beside: Sequence[str]) -> tuple[dict[str, Any] | None, list[str], str]:
    logs = [Log(name=name, records=run.metrics) for run, name in zip(runs, names_of(runs), strict=True)]
    published = [published_curve(name) for name in beside]
    logs += published
    note = ""
    if published:
        names = ", ".join(log.name for log in published)
        note = (
            f"Dashed: the published log of {names}, whose samples are counted as epochs of ImageNet-1k's 1,281,167 "
            "images. Losses compare only between equal targets, patch sizes and data."
        )
    return curves(logs), axes(logs), note
