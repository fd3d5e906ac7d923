"""`openmae check`: inspect every image of a data set, and report what it holds and what is broken."""

import contextlib
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from openmae.checkpoints.names import BAD_IMAGES
from openmae.data.checking import (
    MAX_REASONS,
    BadGroup,
    Survey,
    class_balance,
    common_format,
    duplicates,
    inspect_all,
)
from openmae.data.decoding import AS_USUAL, Reading
from openmae.data.pages import as_images
from openmae.data.sources import Data, Source, classes_if_any, open_data
from openmae.data.sources.taking import everything, for_pretraining
from openmae.data.statistics import STATISTICS_SAMPLE, measure
from openmae.data.workers import automatic_workers
from openmae.errors import UserError
from openmae.files import write_text
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.reporter import ProgressView, plain, say
from openmae.reporting.contact_sheet import write_contact_sheet

RESULT, SHEET = "check.json", "contact_sheet.png"
RECIPE = "vit-b16-800e"
MAX_KINDS_SHOWN = 12


class CheckResult(TypedDict):
    """Everything that check.json holds."""

    data: str | tuple[str, ...]
    images: int
    bad: int
    stops_training: bool
    """Whether more images are bad than a training permits (`max_bad`)."""
    max_bad: float
    bad_reasons: dict[str, Any]
    splits: dict[str, Any]
    left_out: list[dict[str, Any]]
    """Images that belong to no split: which, how many, and why."""
    duplicates: dict[str, Any]
    pixels: dict[str, Any] | None
    statistics: dict[str, Any] | None
    command: str
    """The training that fits these images."""
    out: str


def run_check(
    data: str | tuple[str, ...],
    *,
    labels: str | None = None,
    out: Path | None = None,
    workers: int | None = None,
    reading: Reading = AS_USUAL,
) -> CheckResult:
    """Survey all splits; writes check.json, bad_images.jsonl and contact_sheet.png into `out`, runs/check-NAME if None.

    Raises:
        UserError: when no image can be read, or `out` cannot be written.
    """
    opened = as_images(open_data(data, labels=labels), reading)
    say(everything(opened, {split: classes_if_any(source) for split, source in opened.splits.items()}))
    splits = dict(opened.splits)
    places = [data] if isinstance(data, str) else data
    out = out or Path("runs") / f"check-{'-'.join(Path(place.rstrip('/')).name or 'data' for place in places)[:100]}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        surveys = _survey(splits, out / BAD_IMAGES, automatic_workers() if workers is None else workers, reading)
    except OSError as error:
        raise UserError(f"cannot write to {out} ({error.strerror}); give --out a folder that you may write") from error
    result = _result(data, opened, surveys, out, reading)
    write_text(out / RESULT, json.dumps(result, indent=1))
    if not any(survey.images - survey.bad for survey in surveys.values()):
        why = next(iter(result["bad_reasons"]), "there are none")
        raise UserError(
            f"none of the {result['images']:,} images can be read ({why}); see the reasons in {out / BAD_IMAGES}"
        )
    write_contact_sheet(for_pretraining(opened).images, out / SHEET, reading)
    return result


def _survey(splits: dict[str, Source], bad_images: Path, workers: int, reading: Reading) -> dict[str, Survey]:
    surveys = {name: Survey() for name in splits}
    done = 0
    total = sum(map(len, splits.values()))
    with bad_images.open("w", encoding="utf-8") as file, ProgressView("check", total) as view:
        for name, source in splits.items():
            for findings in inspect_all(source, workers=workers, reading=reading):
                surveys[name].add(findings)
                file.writelines(json.dumps(record._asdict()) + "\n" for record in findings.bad)
                done += len(findings.digests)
                view.update(done, f"check {name}", f"{sum(survey.bad for survey in surveys.values()):,} bad")
    return surveys


def _result(
    data: str | tuple[str, ...], opened: Data, surveys: dict[str, Survey], out: Path, reading: Reading
) -> CheckResult:
    splits = opened.splits
    places = [data] if isinstance(data, str) else data
    sources = list(splits.values())
    starts = np.cumsum([0, *map(len, sources)])

    def name(place: int) -> str:
        split = int(np.searchsorted(starts, place, side="right")) - 1
        return sources[split].name(place - int(starts[split]))

    repeated, groups = duplicates(np.concatenate([survey.digests for survey in surveys.values()]))
    training = for_pretraining(opened)
    trained = [surveys[split] for split in training.splits]
    wanted = common_format(sum((survey.formats for survey in trained), Counter()))
    statistics = None
    if wanted is not None:
        with contextlib.suppress(UserError):  # the sample of a mixture may have no image of that format
            images = training.images
            mean, std = measure(images, wanted, reading)
            statistics = {"sample": min(STATISTICS_SAMPLE, len(images)), "mean": list(mean), "std": list(std)}
    recipe = find_recipe(RECIPE, "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    channels = f" --channels {wanted.channels}" if wanted is not None and wanted.channels != recipe.channels else ""
    return {
        "data": data,
        "images": sum(survey.images for survey in surveys.values()),
        "bad": sum(survey.bad for survey in surveys.values()),
        "stops_training": sum(one.bad for one in trained) > recipe.max_bad * sum(one.images for one in trained),
        "max_bad": recipe.max_bad,
        "bad_reasons": _reasons(list(surveys.values())),
        "splits": {
            split: {
                "images": survey.images,
                "bad": survey.bad,
                "kinds": dict(survey.kinds.most_common()),
                "pixels": {f"{channels} x {kind}": n for (channels, kind), n in survey.formats.most_common()},
                "sizes": survey.sizes(),
                "classes": class_balance(splits[split]),
            }
            for split, survey in surveys.items()
        },
        "left_out": [left._asdict() for left in opened.left_out],
        "duplicates": {"images": repeated, "examples": [[name(place) for place in group] for group in groups]},
        "pixels": None if wanted is None else wanted._asdict(),
        "statistics": statistics,
        "command": f"openmae pretrain {RECIPE} --data {' --data '.join(map(shlex.quote, places))}{channels}",
        "out": str(out),
    }


def _reasons(surveys: list[Survey]) -> dict[str, Any]:
    merged: dict[str, BadGroup] = {}
    for survey in surveys:
        for kind, found in survey.reasons.items():
            into = merged.setdefault(kind, BadGroup())
            into.images += found.images
            into.examples += found.examples
    ordered = sorted(merged.items(), key=lambda item: -item[1].images)[:MAX_REASONS]
    return {
        kind: {"images": found.images, "examples": [[one.name, one.reason] for one in found.examples[:3]]}
        for kind, found in ordered
    }


def check_report(result: CheckResult) -> Group:
    """A result as tables and lines for the terminal."""
    parts: list[Table | Text] = []
    for split, found in result["splits"].items():
        table = Table(title=Text(f"{split}: {found['images']:,} images"), title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for label, value in _rows(found):
            table.add_row(Text(label), Text(plain(value)))
        parts.append(table)
    if result["bad_reasons"]:
        table = Table(
            title=Text(f"{result['bad']:,} of {result['images']:,} images cannot be read"), title_justify="left"
        )
        for heading in ("images", "reason", "for example"):
            table.add_column(heading, justify="right" if heading == "images" else "left")
        for reason, group in result["bad_reasons"].items():
            table.add_row(f"{group['images']:,}", Text(plain(reason)), Text(plain(group["examples"][0][0])))
        parts.append(table)
    parts += [Text(line) for line in _lines(result)]
    return Group(*parts)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = list(found["kinds"].items())
    shown = ", ".join(f"{kind} {count:,}" for kind, count in kinds[:MAX_KINDS_SHOWN])
    more = f" and {len(kinds) - MAX_KINDS_SHOWN} more kinds" if len(kinds) > MAX_KINDS_SHOWN else ""
    rows = [
        ("kinds", (shown or "none") + more),
        ("channels and type", ", ".join(f"{pixels}: {count:,}" for pixels, count in found["pixels"].items()) or "none"),
    ]
    sizes = found["sizes"]
    if sizes:
        rows += [
            (side, "{} to {} pixels, median {}".format(*(sizes[side][n] for n in (0, 2, 1))))
            for side in ("height", "width")
        ]
        small = ", ".join(f"{sizes[f'short_side_below_{side}']:,} below {side}" for side in (224, 256))
        rows.append(("short side", small))
    classes = found["classes"]
    if classes:
        named = [f"{name} {count:,}" for name, count in classes["largest"]]
        named += ["…", *(f"{name} {count:,}" for name, count in classes["smallest"])] if classes["smallest"] else []
        rows.append((f"{classes['classes']:,} classes", ", ".join(named)))
        if classes["unlabelled"]:
            rows.append(("without label", f"{classes['unlabelled']:,}"))
    return rows


def _lines(result: CheckResult) -> list[str]:
    repeated = result["duplicates"]
    lines = [f"exact duplicates: {repeated['images']:,}"]
    lines += ["  " + " = ".join(map(plain, group)) for group in repeated["examples"]]
    statistics, pixels = result["statistics"], result["pixels"]
    if statistics is not None and pixels is not None:
        lines += [
            f"as {pixels['channels']} channels of {pixels['kind']}, on a sample of {statistics['sample']:,}:",
            "  mean " + " ".join(f"{value:g}" for value in statistics["mean"]),
            "  std  " + " ".join(f"{value:g}" for value in statistics["std"]),
        ]
    share = f"the {100 * result['max_bad']:g} % that training permits (--max-bad)"
    if result["stops_training"]:
        lines.append(f"the unreadable images are more than {share}: a run would stop")
    elif result["bad"]:
        lines.append(f"the unreadable images are within {share}: a run would replace them")
    lines += [f"written to {result['out']}: {RESULT}, {BAD_IMAGES}, {SHEET}", f"next: {plain(result['command'])}"]
    return lines
