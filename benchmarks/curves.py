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
from PIL import Image

from benchmarks.alarms import CASES, alarms
from openmae.checkpoints.names import METRICS

Lines = list[dict[str, Any]]
SAMPLE = "quality/loss"
INK, RED, PALE = "#4a5568", "#c53030", "#cbd5e0"
CURVES = {
    "training loss": "#2b6cb0",
    "loss on the sample": "#dd6b20",
    "predicting the mean": "#718096",
    "copying the nearest visible patch": "#38a169",
    "share of the time waiting": "#805ad5",
}
TRIVIAL = ("predicting the mean", "copying the nearest visible patch")
HEIGHT = 120
MOST_POINTS = 200
PICTURES = ("cifar10", "tiny", "rate", "noise", "leak")
"""The runs whose reconstructions are shown, and of each so many images."""
ROWS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the --out of benchmarks/alarms.py")
    parser.add_argument("--docs", type=Path, required=True)
    arguments = parser.parse_args()
    for name, sick in (("healthy", False), ("sick", True)):
        chosen = [case for case in CASES if bool(CASES[case].expected) == sick and (arguments.runs / case).exists()]
        in_a_row = 4 if sick else 3
        panels = [panel(case, arguments.runs / case / "run", width=190 if sick else 250) for case in chosen]
        chart = alt.concat(*panels, columns=in_a_row, spacing=24).configure_view(stroke=None)
        chart = chart.configure_axis(grid=False, labelColor=INK, titleColor=INK, tickColor=PALE, domainColor=PALE)
        chart = chart.configure_legend(labelLimit=400, labelFontSize=12, symbolStrokeWidth=3)
        chart.save(str(arguments.docs / f"curves-{name}.png"), scale_factor=1.5)
    reconstructions(arguments.runs).save(arguments.docs / "curves-pictures.png")


def panel(case: str, run: Path, *, width: int) -> alt.LayerChart:
    """The curves of one run, and where its alarms were raised."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    points = waiting(lines) if case == "starved" else losses(lines)
    highest = max(one["value"] for one in points)
    if case == "starved":
        highest = 1.0
    elif any(one["name"] in TRIVIAL for one in points):
        highest = min(1.5, highest)
    curves = [
        alt.Chart(alt.Data(values=[one for one in points if (one["name"] in TRIVIAL) == is_trivial]))
        .mark_line(strokeWidth=1.2 if is_trivial else 2, strokeDash=[4, 3] if is_trivial else [1, 0], clip=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5), scale=alt.Scale(nice=False)),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(domain=[0, highest])),
            color=alt.Color(
                "name:N",
                title=None,
                scale=alt.Scale(domain=list(CURVES), range=list(CURVES.values())),
                legend=alt.Legend(orient="bottom"),
            ),
        )
        for is_trivial in (True, False)
    ]
    title = alt.Title(CASES[case].title, fontSize=12, anchor="start")
    marks = [{"step": alarm["step"], "kind": alarm["kind"]} for alarm in alarms(run)]
    if not marks:
        return alt.layer(*curves).properties(width=width, height=HEIGHT, title=title)
    at = alt.Chart(alt.Data(values=marks))
    rule = at.mark_rule(color=RED, strokeWidth=1.5).encode(x="step:Q")
    right = marks[0]["step"] > lines[-1]["step"] / 2
    text = at.mark_text(
        color=RED, align="right" if right else "left", dx=-4 if right else 4, fontSize=12, fontWeight="bold"
    ).encode(x="step:Q", y=alt.value(-4), text="kind:N")
    return alt.layer(*curves, rule, text).properties(width=width, height=HEIGHT, title=title)


def losses(lines: Lines) -> Lines:
    """The points of the losses; what a trivial predictor gets is the same from the first step to the last."""
    trained = [line for line in lines if "loss" in line and "epoch" in line]
    trained = trained[:: max(1, len(trained) // MOST_POINTS)]
    points = [point(line["step"], line["loss"], "training loss") for line in trained]
    points += [point(line["step"], line["quality/loss"], "loss on the sample") for line in lines if SAMPLE in line]
    for key, name in (
        ("quality/constant", "predicting the mean"),
        ("quality/nearest", "copying the nearest visible patch"),
    ):
        known = [line[key] for line in lines if key in line]
        points += [point(step, known[-1], name) for step in (0, lines[-1]["step"]) if known]
    return points


def waiting(lines: Lines) -> Lines:
    return [
        point(line["step"], line["waiting_for_data"], "share of the time waiting")
        for line in lines
        if "waiting_for_data" in line
    ]


def reconstructions(runs: Path) -> Image.Image:
    """A column of pictures for each run: the first images of its sample, masked, and reconstructed at its end."""
    strips = []
    for case in PICTURES:
        samples = sorted((runs / case / "run" / "samples").glob("step-*.png"))
        notes = json.loads((samples[-1].parent / "samples.json").read_text())
        height, width = notes["cell"]
        strips.append(Image.open(samples[-1]).crop((0, 0, len(notes["columns"]) * width, ROWS * height)))
    gap = strips[0].width // 12
    sheet = Image.new("RGB", (sum(strip.width + gap for strip in strips) - gap, strips[0].height), "white")
    left = 0
    for strip in strips:
        sheet.paste(strip, (left, 0))
        left += strip.width + gap
    return sheet


def point(step: float, value: float, name: str) -> dict[str, Any]:
    return {"step": step, "value": value, "name": name}


if __name__ == "__main__":
    main()
