"""The data set in brief: its splits, how the network takes the images, and the images that could not be read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from openmae.checkpoints.names import BAD_IMAGES
from openmae.reporting.growing_files import json_object
from openmae.reporting.report.measured import items, mapping, number

MOST_BAD = 20
MOST_LINES = 100_000


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """An image that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What was trained on.

    Args:
        places: what `--data` named.
        splits: name, number of images, and whether they were trained on.
        facts: more lines for the page, name and value.
        left_out: what lies there and was not used.
        bad: the first of the images that could not be read.
        bad_total: how many there are.
    """

    places: str
    splits: list[tuple[str, int, bool]]
    facts: list[tuple[str, str]]
    left_out: list[str]
    bad: list[BadImage]
    bad_total: int


def data_set(recipe: Mapping[str, Any], results: Mapping[str, Any] | None, run: Path) -> DataSet:
    """The data set of a run from its recipe, its results and its list of bad images."""
    record = mapping((results or {}).get("data"))
    bad = {one.name: one for one in _bad(run / BAD_IMAGES)}
    return DataSet(
        places=" ".join(places_of(recipe)) or "not named",
        splits=_splits(record),
        facts=_facts(recipe),
        left_out=[_left_out(one) for one in items(record.get("left_out")) if isinstance(one, Mapping)],
        bad=list(islice(bad.values(), MOST_BAD)),
        bad_total=len(bad),
    )


def places_of(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """What `--data` named; () where it named nothing."""
    data = recipe.get("data")
    return tuple(map(str, data if isinstance(data, list | tuple) else [data] if data else []))


def _splits(record: Mapping[str, Any]) -> list[tuple[str, int, bool]]:
    """The splits of a pre-training; of a measurement the two that it used."""
    splits = record.get("splits")
    if isinstance(splits, Mapping):
        return [
            (str(name), int(number(split.get("images")) or 0), bool(split.get("used")))
            for name, split in splits.items()
            if isinstance(split, Mapping)
        ]
    parts = [(record.get(role), role == "train") for role in ("train", "measured")]
    return [
        (str(part.get("split")), int(number(part.get("images")) or 0), used)
        for part, used in parts
        if isinstance(part, Mapping)
    ]


def _facts(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    channels = recipe.get("channels")
    kind = {1.0: " (grey)", 3.0: " (colour)"}.get(number(channels) or 0.0, "")
    shown = {
        "image size": f"{recipe.get('image_size')} pixels",
        "channels": f"{channels}{kind}",
        "pixel type": str(recipe.get("pixel_type")),
        "mean": _numbers(recipe.get("mean")),
        "standard deviation": _numbers(recipe.get("std")),
        "crops": f"{_numbers(recipe.get('crop_scale'), ' to ')} of the area",
        "flipped": f"with probability {recipe.get('flip')}",
    }
    return [(name, value) for name, value in shown.items() if "None" not in value]


def _numbers(values: Any, between: str = ", ") -> str:
    if not isinstance(values, list | tuple):
        return "None"
    return between.join(f"{value:.4g}" if isinstance(value, int | float) else str(value) for value in values)


def _left_out(one: Mapping[str, Any]) -> str:
    images = number(one.get("images"))
    count = "" if images is None else f"{int(images):,} images, "
    return f"{one.get('what')} ({count}{one.get('why')})"


def _bad(file: Path) -> Iterable[BadImage]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in islice(lines, MOST_LINES):
                if (record := json_object(line)) is not None:
                    yield BadImage(
                        name=str(record.get("name", record.get("image"))), reason=str(record.get("reason", ""))
                    )
    except OSError:
        return
