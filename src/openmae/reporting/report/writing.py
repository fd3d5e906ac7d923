"""The report: facts of runs are gathered, laid out, and written as report.html and report.md."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch

from openmae.errors import UserError
from openmae.files import write_text
from openmae.recipes import RECIPES
from openmae.reporter import plain, say
from openmae.reporting.report.classes import Classes, Mistakes, classes_of, has_classifier, mistakes_of
from openmae.reporting.report.curves import Log, axes, curves
from openmae.reporting.report.data_set import DataSet, data_set
from openmae.reporting.report.looking import Looks, look
from openmae.reporting.report.map import map_chart
from openmae.reporting.report.measured import (
    Measured,
    measurements_at,
    measurements_beside,
    measures,
    most_telling,
    number,
    table,
)
from openmae.reporting.report.over_time import Frames, frames_from_checkpoints, frames_of
from openmae.reporting.report.page import Missing, Page, RunLine, as_html, as_markdown
from openmae.reporting.report.published import published_curve
from openmae.reporting.report.reproducing import repeating
from openmae.reporting.report.sample import Sample, draw_sample
from openmae.reporting.report.summary import summarise
from openmae.reporting.run_files import RunFiles, read_run
from openmae.weights.building import LoadedAutoencoder, load_autoencoder

T = TypeVar("T")
HTML, MARKDOWN = "report.html", "report.md"
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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network made of images; `frames_note` and `sample` say in words what is shown."""

    looks: Looks | None = None
    frames: Frames | None = None
    frames_note: str = ""
    sample: str = ""
    parameters: int | None = None


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
    data = wanted.data or _places(first.recipe)
    telling = most_telling(measured[0])
    seen = _look(first, folder, data, wanted)
    brief = data_set(first.recipe, first.results, folder)
    page_classes, mistakes = _classes(telling, data, wanted)
    chart, chart_axes, note = _curves(chosen, wanted.beside)
    names = _names(chosen)
    page = Page(
        title=_title(names),
        made=f"Made by openmae {metadata.version('openmae')} on {time.strftime('%Y-%m-%d %H:%M')}.",
        runs=[_line(run, name) for run, name in zip(chosen, names, strict=True)],
        summary=summarise(
            first.recipe,
            first.metrics,
            first.quality,
            first.alarms,
            first.results,
            state=first.state,
            images=sum(images for _, images, used in brief.splits if used) or None,
            parameters=seen.parameters,
            seconds=_seconds(first),
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
        missing=_missing(first, measured[0], seen, page_classes, mistakes, brief, wanted),
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


def _look(run: RunFiles, folder: Path, data: str | tuple[str, ...] | None, wanted: Wanted) -> Seen:
    """Run the network of a pre-training over images. What cannot be had is left out, and said."""
    if run.stage != "pretrain":
        return Seen()
    frames = frames_of(folder)
    note = "The same images with the same masks, as the training went on. Move the first slider to compare."
    loaded = _try("the network", lambda: load_autoencoder(folder))
    if loaded is None:
        return Seen(frames=frames, frames_note=note)
    parameters = sum(parameter.numel() for parameter in loaded.model.encoder.parameters())
    known = Seen(frames=frames, frames_note=note, parameters=parameters)
    if data is None or not wanted.images:
        return known
    sample = _try("the images", lambda: draw_sample(loaded.network, data, count=wanted.images, seed=wanted.seed))
    if sample is None or not len(sample):
        return known
    with torch.inference_mode():
        looks = _try("the pictures", lambda: look(loaded, sample, seed=wanted.seed))
        if frames is None:
            frames = _try("checkpoints", lambda: frames_from_checkpoints(folder, sample, seed=wanted.seed))
            note = "From the checkpoints that are left: this training wrote no pictures."
    return Seen(
        looks=looks, frames=frames, frames_note=note, sample=_describe(sample, looks, loaded), parameters=parameters
    )


def _describe(sample: Sample, looks: Looks | None, loaded: LoadedAutoencoder) -> str:
    """Which images are shown, in a sentence."""
    shown = len(sample) if looks is None else looks.images
    seen = "which the training did not use" if sample.held_out else "which it was trained on"
    hidden = f"{100 * loaded.mask_ratio:.3g} % of the patches are hidden"
    return f"From {shown:,} of {sample.total:,} images of the {sample.split} split, {seen}; {hidden}."


def _classes(
    telling: Measured | None, data: str | tuple[str, ...] | None, wanted: Wanted
) -> tuple[Classes | None, Mistakes | None]:
    if telling is None:
        return None, None
    classes, folder = classes_of(telling), telling.folder
    if folder is None or not wanted.images or not has_classifier(folder):
        return classes, None
    places = wanted.data or _places(read_run(folder).recipe) or data
    if places is None:
        return classes, None
    return classes, _try("the mistakes", lambda: mistakes_of(folder, places, seed=wanted.seed))


def _curves(runs: Sequence[RunFiles], beside: Sequence[str]) -> tuple[dict[str, Any] | None, list[str], str]:
    logs = [Log(name=name, records=run.metrics) for run, name in zip(runs, _names(runs), strict=True)]
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


def _names(runs: Sequence[RunFiles]) -> list[str]:
    """Short names of the runs, which differ."""
    names: list[str] = []
    for run in runs:
        name = plain(run.name)
        longer = plain(str(run.path))
        names.append(name if name not in names else longer if longer not in names else f"{longer} ({len(names) + 1})")
    return names


def _title(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{names[0]} and {len(names) - 1} other runs"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _line(run: RunFiles, name: str) -> RunLine:
    last = next((record for record in reversed(run.metrics) if number(record.get("loss")) is not None), {})
    loss, samples = number(last.get("loss")), number(last.get("samples"))
    return RunLine(
        name=name,
        folder=str(run.path),
        state=run.state,
        samples="" if samples is None else f"{samples:,.0f}",
        loss="" if loss is None else f"{loss:.4g}",
    )


def _seconds(run: RunFiles) -> float | None:
    """How long the training took, from its own speed: a run that was stopped and continued did not take the nights."""
    samples, seconds = 0.0, 0.0
    for record in run.metrics:
        now, speed = number(record.get("samples")), number(record.get("images_per_second"))
        if now is not None and speed and now > samples:
            seconds += (now - samples) / speed
            samples = now
    return seconds or None


def _places(recipe: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    data = recipe.get("data")
    if isinstance(data, list | tuple):
        return tuple(map(str, data))
    return str(data) if data else None


def _missing(
    run: RunFiles,
    measured: Sequence[Measured],
    seen: Seen,
    classes: Classes | None,
    mistakes: Mistakes | None,
    brief: DataSet,
    wanted: Wanted,
) -> list[Missing]:
    """What the page lacks, and the command that would add it."""
    place, data = shlex.quote(str(run.path)), shlex.quote(brief.places if run.recipe.get("data") else "LABELLED")
    missing = []
    if run.stage != "pretrain":
        if weights := run.recipe.get("weights"):
            missing.append(
                Missing(
                    what="Pictures of what the network sees are in the report of the pre-training",
                    command=f"openmae report {shlex.quote(str(weights))} {place}",
                )
            )
        return missing
    beside = shlex.quote(f"{run.path}-knn.json")
    twin = shlex.quote(f"{run.path}-knn-untrained.json")
    if not any(one.encoder == "pretrained" for one in measured):
        missing.append(
            Missing(
                what="How good the features are: this needs labels; a JSON file beside the run is found by itself",
                command=f"openmae knn --weights {place} --data {data} --json > {beside}",
            )
        )
    if not any(one.encoder == "untrained" for one in measured):
        missing.append(
            Missing(
                what="Whether pre-training helped: the same for the untrained twin",
                command=f"openmae knn --weights {place} --data {data} --untrained --json > {twin}",
            )
        )
    if mistakes is None and wanted.images:
        recipe = _linear_recipe(str(run.recipe.get("name")))
        missing.append(
            Missing(
                what="The worst mistakes as pictures: this needs a classifier"
                if classes is not None
                else "Accuracy of each class and the worst mistakes: this needs labels and a classifier",
                command=f"openmae linear {recipe} --weights {place} --data {data} --cached --out {place}-linear",
            )
        )
    if seen.looks is None:
        missing.append(
            Missing(
                what="Pictures of what the network sees: the images or the weights were not there",
                command=f"openmae report {place} --data IMAGES",
            )
        )
    if not run.quality:
        missing.append(
            Missing(
                what="The loss beside trivial predictors, and reconstructions over time: a training writes them",
                command=f"openmae pretrain --recipe-file {place}/recipe.yaml --out {place}-again",
            )
        )
    return missing


def _linear_recipe(name: str) -> str:
    """The recipe for linear evaluation of what was pre-trained by the recipe of this name."""
    known = {recipe.name for recipe in RECIPES.values() if recipe.stage == "linear"}
    return next((one for one in (name, f"{name}-linear") if one in known), "RECIPE")


def _try(what: str, get: Callable[[], T]) -> T | None:
    """The value, or None where the user's files do not give it, which is said."""
    try:
        return get()
    except (UserError, OSError) as error:
        say(f"the report goes without {what}: {error}")
        return None
