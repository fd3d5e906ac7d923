"""The map of features: a point for each image, which shows its image."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from openmae.evaluation.views import projection
from openmae.evaluation.views.projection import Projection
from openmae.reporting.report.curves import COLOURS, OTHERS_COLOUR
from openmae.reporting.report.pictures import Picture
from openmae.reporting.report.sample import Sample

MORE_COLOURS = ("#00838f", "#7a7a00", "#d0587e", "#6a6fd1")
MOST_CLASSES = len(COLOURS) + len(MORE_COLOURS)
OTHERS = "other classes"
THUMBNAIL = 32


@dataclass(frozen=True, kw_only=True)
class Map:
    """The features in two dimensions: a row for each image with x, y, class, name and image (a data URI)."""

    method: str
    classes: list[str]
    rows: list[dict[str, str | float]]


def map_of(sample: Sample, features: NDArray[np.float32]) -> Map | None:
    """The first images of the sample by their features [N, D]; None when they are few."""
    if len(features) < 5:
        return None
    method: Projection = "tsne" if len(features) >= 50 else "pca"
    points = projection(features, method)
    rows: list[dict[str, str | float]] = [
        {
            "x": round(float(x), 3),
            "y": round(float(y), 3),
            "class": sample.label(place) or "no label",
            "name": sample.names[place],
            "image": Picture(sample.visible(place), longest=THUMBNAIL).uri,
        }
        for place, (x, y) in enumerate(points)
    ]
    return Map(method="t-SNE" if method == "tsne" else "PCA", classes=list(sample.classes), rows=rows)


def map_chart(found: Map) -> dict[str, Any]:
    """A Vega-Lite chart without a size. Of more than twelve classes the most frequent ones have colours."""
    counts = Counter(str(row["class"]) for row in found.rows)
    named = [name for name, _ in sorted(counts.most_common(MOST_CLASSES), key=lambda one: one[0])]
    rows = [{**row, "group": row["class"] if row["class"] in named else OTHERS} for row in found.rows]
    groups = [*named, *([OTHERS] if len(counts) > len(named) else [])]
    colours = [*(COLOURS + MORE_COLOURS)[: len(named)], *([OTHERS_COLOUR] if len(groups) > len(named) else [])]
    chosen = alt.selection_point(name="chosen", fields=["group"], bind="legend")
    legend = (
        alt.Legend(title=None, orient="top", columns=4, labelLimit=140, symbolType="circle")
        if len(groups) > 1
        else None
    )
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=True, size=55)
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False, nice=False, padding=12)),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False, nice=False, padding=12)),
            color=alt.Color("group:N", scale=alt.Scale(domain=groups, range=colours), legend=legend),
            opacity=alt.condition(chosen, alt.value(0.85), alt.value(0.08)),
            tooltip=alt.Tooltip("name:N"),  # the page shows the image and the class too
        )
        .add_params(chosen)
        .properties(width=700, height=460)
    )
    specification: dict[str, Any] = chart.to_dict()
    return specification
