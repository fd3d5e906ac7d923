"""The pictures of docs/curves.md, of the finished runs of benchmarks/alarms.py.

    python benchmarks/curves.py RUNS --docs docs

Draws the losses of healthy and sick runs, with what trivial predictors get and the step of the first alarm, into
DOCS/curves-healthy.png and DOCS/curves-sick.png, and reconstructions of the same images by some of the networks into
DOCS/curves-pictures.png.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import altair as alt

from benchmarks.alarms import CASES, alarms
from openmae.checkpoints.names import METRICS

BLUE, ORANGE, RED, GREY = "#2b6cb0", "#c05621", "#c53030", "#718096"
WIDTH, HEIGHT = 250, 130
IN_A_ROW = 3
MOST_POINTS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the --out of benchmarks/alarms.py")
    parser.add_argument("--docs", type=Path, required=True)
    arguments = parser.parse_args()
    for name, sick in (("healthy", False), ("sick", True)):
        chosen = [case for case in CASES if bool(CASES[case].expected) == sick and (arguments.runs / case).exists()]
        panels = [panel(case, arguments.runs / case / "run") for case in chosen]
        chart = alt.concat(*panels, columns=IN_A_ROW, spacing=24).configure_view(stroke=None)
        chart = chart.configure_axis(grid=False, labelColor=GREY, titleColor=GREY, tickColor=GREY, domainColor=GREY)
        chart.save(str(arguments.docs / f"curves-{name}.png"), scale_factor=2)


def panel(case: str, run: Path) -> alt.LayerChart:
    """The curves of one run."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    trained = [line for line in lines if "loss" in line and "epoch" in line]
    trained = trained[:: max(1, len(trained) // MOST_POINTS)]
    if case == "starved":
        points = [point(line["step"], line["waiting_for_data"], "share of time waiting") for line in trained]
    else:
        points = [point(line["step"], line["loss"], "training loss") for line in trained]
        for key, name in (("quality/loss", "loss on the sample"), ("quality/constant", "predicting the mean")):
            points += [point(line["step"], line[key], name) for line in lines if key in line]
    largest = max(one["value"] for one in points)
    logarithmic = case != "starved" and (largest > 20 * min(one["value"] for one in points) or case == "rate")
    curves = (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5)),
            y=alt.Y(
                "value:Q",
                title=None,
                axis=alt.Axis(tickCount=4),
                scale=alt.Scale(type="log")
                if logarithmic
                else alt.Scale(domain=[0, min(largest * 1.05, 2.0)], clamp=True),
            ),
            color=alt.Color(
                "name:N",
                title=None,
                scale=alt.Scale(
                    domain=["training loss", "loss on the sample", "predicting the mean", "share of time waiting"],
                    range=[BLUE, ORANGE, GREY, BLUE],
                ),
                legend=alt.Legend(orient="bottom"),
            ),
        )
    )
    raised = alarms(run)
    marks = [{"step": alarm["step"], "kind": alarm["kind"]} for alarm in raised]
    rule = alt.Chart(alt.Data(values=marks)).mark_rule(color=RED, strokeWidth=1.5).encode(x="step:Q")
    text = (
        alt.Chart(alt.Data(values=marks))
        .mark_text(color=RED, align="left", dx=4, y=8, fontSize=11, fontWeight="bold")
        .encode(x="step:Q", text="kind:N")
    )
    layers = [curves, rule, text] if marks else [curves]
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=alt.Title(CASES[case].title, fontSize=12))


def point(step: float, value: float, name: str) -> dict[str, Any]:
    return {"step": step, "value": value, "name": name}


if __name__ == "__main__":
    main()
