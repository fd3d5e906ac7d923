"""The curves of runs as one chart: loss, rate, quality and speed above each other, on one axis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import altair as alt

from openmae.reporting.report.measured import number

MOST_POINTS = 300
"""Of a curve: as many as a wide screen has pixels for, with a point to hover over."""
FEW_POINTS = 20
"""A curve of so few points shows them."""
WIDTH = 760
COLOURS = ("#2f7fc1", "#c4622d", "#3f8f4f", "#a457b5", "#b8860b", "#c2487a", "#5b7f95", "#8c6d5a")
"""Colours that stand out from white and from the dark page alike."""
OTHERS_COLOUR = "#8a8a8a"


@dataclass(frozen=True, kw_only=True)
class Log:
    """The log of one run.

    Args:
        name: of the run, as the legend shows it.
        records: the lines of metrics.jsonl.
        published: whether others published it.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    published: bool = False


class Panel(NamedTuple):
    """One of the charts: its title, its height, and the figures that it shows by the name of the line."""

    title: str
    height: int
    figures: Mapping[str, str]
    from_zero: bool = False


PANELS = (
    Panel(
        "loss",
        240,
        {
            "loss": "training",
            "quality/loss": "fixed images and masks",
            "quality/own_mean": "true mean of each patch",
            "quality/nearest": "nearest visible patch",
            "quality/smooth": "smooth interpolation",
            "quality/constant": "best constant",
        },
    ),
    Panel("accuracy, %", 130, {"quality/knn": "kNN", "quality/probe": "linear probe", "top1": "top-1"}),
    Panel("rank (RankMe)", 90, {"quality/rank": "RankMe"}),
    Panel("learning rate", 80, {"lr": "rate"}, from_zero=True),
    Panel("images/s", 80, {"images_per_second": "speed"}, from_zero=True),
    Panel("gradient norm", 80, {"gradient_norm": "gradient"}),
)
TRIVIAL = ("quality/own_mean", "quality/nearest", "quality/smooth", "quality/constant")


def curves(logs: Sequence[Log]) -> dict[str, Any] | None:
    """The chart as a Vega-Lite specification without a width's limit; None when no log has a line of training.

    Each point has `samples`, `epoch` and `share` (of its log, in per cent): the page can put any of them on the axis.
    """
    placed = {log.name: _placed(log) for log in logs}
    panels = []
    for panel in PANELS:
        rows = [
            row
            for log in logs
            for figure, words in panel.figures.items()
            for row in _line(
                placed[log.name], figure, _series(log, figure, words, several=len(logs) > 1), log.published
            )
        ]
        if rows:
            panels.append((panel, rows))
    if not panels or not any(rows for panel, rows in panels if panel.title == "loss"):
        return None
    shown, charts = list[str](), []
    for place, (panel, rows) in enumerate(panels):
        names = list(dict.fromkeys(row["line"] for row in rows))
        with_legend = len(names) > 1 and names != shown  # the same lines need their names once
        shown = names if with_legend else shown
        charts.append(_chart(place, panel, rows, last=place == len(panels) - 1, with_legend=with_legend))
    return _joined(charts)


def axes(logs: Sequence[Log]) -> list[str]:
    """The axes that all of these logs have figures for."""
    placed = [_placed(log) for log in logs]
    return [axis for axis in ("samples", "epoch", "share") if all(any(axis in at for at, _ in log) for log in placed)]


def _chart(place: int, panel: Panel, rows: list[dict[str, Any]], *, last: bool, with_legend: bool) -> alt.LayerChart:
    names = list(dict.fromkeys(row["line"] for row in rows))
    ours = [name for name in names if not any(row["line"] == name and row["other"] for row in rows)]
    colours = [COLOURS[ours.index(name) % len(COLOURS)] if name in ours else OTHERS_COLOUR for name in names]
    dashes = [[1, 0] if not _dashed(rows, name) else [5, 4] for name in names]
    columns = 4 if max(map(len, names)) <= 10 else 2 if max(map(len, names)) <= 24 else 1
    whole = alt.Legend(title=None, orient="top", columns=columns, labelLimit=260, symbolType="stroke")
    legend = whole if with_legend else None
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "samples:Q",
            title="samples seen" if last else None,
            axis=alt.Axis(format="~s", labelFlush=True, tickCount=6),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(
            "value:Q",
            title=panel.title,
            scale=alt.Scale(zero=panel.from_zero),
            axis=alt.Axis(tickCount=max(3, panel.height // 40), minExtent=46, maxExtent=46),
        ),
        color=alt.Color("line:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
    )
    lines = base.mark_line(strokeWidth=1.8, clip=True).encode(
        strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    )
    rule = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_rule(clip=True, color=OTHERS_COLOUR)
        .encode(x="samples:Q", opacity=alt.condition(_hover(place), alt.value(0.35), alt.value(0)))
    )
    points = base.mark_point(filled=True, size=60, clip=True).encode(
        opacity=alt.when(_hover(place)).then(alt.value(1)).when("datum.few").then(alt.value(1)).otherwise(alt.value(0)),
        size=alt.when(_hover(place)).then(alt.value(60)).otherwise(alt.value(25)),
        tooltip=alt.Tooltip("value:Q"),
    )
    return alt.LayerChart(layer=[lines, rule, points], width=WIDTH, height=panel.height)


def _hover(place: int) -> alt.Parameter:
    """The points nearest to the pointer."""
    return alt.selection_point(
        name=f"hover{place}", nearest=True, on="pointermove", clear="pointerout", fields=["samples"], empty=False
    )


def _declared(parameter: alt.Parameter) -> dict[str, Any]:
    """The declaration of a selection."""
    declared: dict[str, Any] = cast(Any, parameter.param).to_dict()  # its type allows for one that is not declared
    return declared


def _joined(charts: Sequence[alt.LayerChart]) -> dict[str, Any]:
    """The charts above each other, with one zoom for all of them.

    The selections are put in by hand: Altair gives those of a layer to all of its marks, and Vega-Lite wants each once.
    """
    joined = alt.vconcat(*charts, spacing=14).resolve_scale(x="shared", color="independent", strokeDash="independent")
    specification: dict[str, Any] = joined.to_dict()
    for place, chart in enumerate(specification["vconcat"]):
        lines, _, points = chart["layer"]
        lines["name"] = f"lines{place}"
        points["params"] = [_declared(_hover(place))]
    zoom = alt.selection_interval(
        name="zoom", bind="scales", encodings=["x"], zoom="wheel![event.ctrlKey || event.shiftKey || event.metaKey]"
    )
    views = [f"lines{place}" for place in range(len(charts))]
    return {**specification, "params": [{**_declared(zoom), "views": views}]}


def _dashed(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    return any(row["line"] == name and row["dashed"] for row in rows)


def _series(log: Log, figure: str, words: str, *, several: bool) -> str:
    """The name of a line in the legend."""
    if not several:
        return words
    return log.name if figure in ("loss", "lr", "images_per_second", "gradient_norm") else f"{log.name}: {words}"


def _line(
    placed: Sequence[tuple[Mapping[str, float], Mapping[str, Any]]], figure: str, name: str, other: bool
) -> list[dict[str, Any]]:
    """The points of one figure, at most MOST_POINTS, each the mean of those that it stands for."""
    found = [
        (at, value)
        for at, record in placed
        if (value := number(record.get(figure))) is not None and (figure != "loss" or _is_training(record))
    ]
    size = -(-len(found) // MOST_POINTS)
    few = len(found) <= FEW_POINTS and figure not in TRIVIAL
    points = []
    for start in range(0, len(found), max(1, size)):
        part = found[start : start + size]
        at = part[-1][0]
        value = sum(value for _, value in part) / len(part)
        points.append(
            {
                **at,
                "value": float(f"{value:.5g}"),
                "line": name,
                "dashed": other or figure in TRIVIAL,
                "other": other,
                "few": few,
            }
        )
    return points


def _is_training(record: Mapping[str, Any]) -> bool:
    return "epoch" in record and "quality/loss" not in record


def _placed(log: Log) -> list[tuple[dict[str, float], Mapping[str, Any]]]:
    """The records with where they are on each axis; an evaluation is where the training before it was."""
    last: dict[str, float] = {}
    placed = []
    for record in log.records:
        here = {axis: value for axis in ("samples", "epoch", "step") if (value := number(record.get(axis))) is not None}
        last = {**last, **here}
        placed.append((dict(last), record))
    end = last.get("epoch") or last.get("samples") or last.get("step")
    for at, _ in placed:
        here_now = at.get("epoch") or at.get("samples") or at.get("step")
        if end and here_now is not None:
            at["share"] = round(100 * here_now / end, 3)
        at.pop("step", None)
    return placed
