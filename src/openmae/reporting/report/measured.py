"""Measurements of a run: those in its own folder, in folders and JSON files beside it, and those that were named."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from openmae.checkpoints.names import RESULTS

Encoder = Literal["pretrained", "untrained", "pixels"]
PROTOCOLS = {"knn": "kNN", "linear": "linear evaluation", "finetune": "fine-tuning"}
"""The protocols in the order of the table, and their names for people."""
FIGURES = {"top1": "top-1, %", "mean_average_precision": "mean average precision, %", "r2": "R²"}
"""The figure of each task that encoders are compared by."""
LARGEST_FILE = 4_000_000
MOST_NEIGHBOURS = 300
"""So many folders and files beside a run are looked at."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One encoder measured by one protocol.

    Args:
        protocol: knn, linear or finetune.
        encoder: pretrained, untrained (the same network with fresh weights), or pixels (no network).
        label_fraction: the share of the labels that was used.
        figure: the name of the figure in the result.
        value: of the figure.
        weights: what was measured, as the result names it.
        result: everything else that was recorded.
        folder: of the run that measured, where there is one.
    """

    protocol: str
    encoder: Encoder
    label_fraction: float
    figure: str
    value: float
    weights: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: a protocol at a share of the labels.

    Args:
        protocol: for people.
        labels: the share, for people.
        figure: for people.
        pretrained: the figure of each run, in the order of the runs.
        untrained: of the twin.
        pixels: of the pixels themselves.
    """

    protocol: str
    labels: str
    figure: str
    pretrained: tuple[float | None, ...]
    untrained: float | None
    pixels: float | None

    @property
    def gain(self) -> float | None:
        """How much better the first run is than its untrained twin."""
        first = self.pretrained[0]
        return None if first is None or self.untrained is None else first - self.untrained

    @property
    def points(self) -> float | None:
        """The gain in hundredths of the whole, whatever the figure's unit is."""
        return None if self.gain is None else self.gain * (1 if self._in_per_cent else 100)

    @property
    def gain_text(self) -> str:
        """The gain with its sign; "" where it is not known."""
        return "" if self.gain is None else f"{'+' if self.gain >= 0 else ''}{self.text(self.gain)}"

    def text(self, value: float | None) -> str:
        """A figure of this line; "" for None."""
        return "" if value is None else f"{value:.{1 if self._in_per_cent else 3}f}"

    @property
    def _in_per_cent(self) -> bool:
        return "%" in self.figure


def measurements_in(result: Any, folder: Path | None = None) -> list[Measured]:
    """The measurements of a result of `--json`, of results.json, or of a list of them; none of anything else."""
    if isinstance(result, list):
        return [one for part in result for one in measurements_in(part, folder)]
    if not isinstance(result, dict) or result.get("protocol") not in PROTOCOLS:
        return []
    encoder = result.get("encoder", "pretrained")
    fraction = number(result.get("label_fraction", 1.0))
    found = next((name for name in FIGURES if number(result.get(name)) is not None), None)
    if encoder not in ("pretrained", "untrained", "pixels") or fraction is None or found is None:
        return []
    return [
        Measured(
            protocol=result["protocol"],
            encoder=encoder,
            label_fraction=fraction,
            figure=found,
            value=float(result[found]),
            weights=str(result.get("weights", "")),
            result=result,
            folder=folder,
        )
    ]


def measurements_at(place: Path) -> list[Measured]:
    """The measurements of a run folder or of a JSON file; none where there are none."""
    file = place / RESULTS if place.is_dir() else place
    try:
        if file.stat().st_size > LARGEST_FILE:
            return []
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return measurements_in(result, place if place.is_dir() else None)


def measurements_beside(run: Path) -> list[Measured]:
    """The measurements of `run` in the folders and JSON files that lie beside it."""
    try:
        places = sorted(run.resolve().parent.iterdir())[:MOST_NEIGHBOURS]
    except OSError:
        return []
    candidates = [place for place in places if place.suffix == ".json" or (place / RESULTS).is_file()]
    return [one for place in candidates for one in measurements_at(place) if measures(one, run)]


def measures(measured: Measured, run: Path) -> bool:
    """Whether this is a measurement of the weights in that run folder, which may have been moved since."""
    if not measured.weights:
        return False
    folder, own = run.resolve(), Path(measured.weights)
    if folder in own.absolute().parents or folder == own.absolute():
        return True
    parts = [part for part in own.parent.parts if part not in ("..", ".", "/")] if own.suffix else list(own.parts)
    while parts and (parts[-1] == "checkpoints" or parts[-1].startswith("step-")):
        parts.pop()
    # A run that was copied with what lies beside it keeps its last name and that of its parent.
    kept = tuple(parts[-2:])
    return len(kept) == 2 and folder.parts[-2:] == kept


def table(runs: Sequence[Sequence[Measured]]) -> list[Row]:
    """Protocols and shares of the labels, a line each, from the measurements of each run; the last of equals counts."""
    keys = {(one.protocol, one.label_fraction, one.figure) for run in runs for one in run}
    order = list(PROTOCOLS)
    rows = []
    for protocol, fraction, figure in sorted(keys, key=lambda key: (order.index(key[0]), key[1], key[2])):
        same = [
            [one for one in run if (one.protocol, one.label_fraction, one.figure) == (protocol, fraction, figure)]
            for run in runs
        ]
        everyone = [one for run in same for one in run]
        rows.append(
            Row(
                protocol=PROTOCOLS[protocol],
                labels=f"{100 * fraction:.3g} %",
                figure=FIGURES[figure],
                pretrained=tuple(_last(run, "pretrained") for run in same),
                untrained=_last(same[0], "untrained") if same[0] else _last(everyone, "untrained"),
                pixels=_last(everyone, "pixels"),
            )
        )
    return rows


def most_telling(measurements: Iterable[Measured]) -> Measured | None:
    """The measurement of the trained encoder that says most about classes: most labels, then the strongest protocol."""
    order = list(PROTOCOLS)
    known = [one for one in measurements if one.encoder == "pretrained" and one.result.get("per_class")]
    return max(known, key=lambda one: (one.label_fraction, order.index(one.protocol)), default=None)


def number(value: Any) -> float | None:
    """A finite number of a file that a stranger may have written; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """An object of such a file; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """A list of such a file; an empty one for anything else."""
    return value if isinstance(value, list) else []


def _last(measurements: Sequence[Measured], encoder: Encoder) -> float | None:
    return next((one.value for one in reversed(measurements) if one.encoder == encoder), None)
