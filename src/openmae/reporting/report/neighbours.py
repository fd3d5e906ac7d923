"""Images with those that are nearest to them by their features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmae.evaluation.views import neighbours
from openmae.reporting.report.pictures import Picture
from openmae.reporting.report.sample import Sample

QUERIES, NEAREST = 6, 6


@dataclass(frozen=True, kw_only=True)
class Found:
    """An image beside a query, how similar it is (cosine), and whether it is of the query's class, where known."""

    name: str
    label: str
    picture: Picture
    similarity: float
    same: bool | None


@dataclass(frozen=True, kw_only=True)
class Query:
    """An image, and those nearest to it."""

    name: str
    label: str
    picture: Picture
    nearest: list[Found]


def queries_of(sample: Sample, features: NDArray[np.float32]) -> tuple[list[Query], float | None]:
    """Some images with those nearest to them, and how often these are of the same class."""
    if len(features) < 3:
        return [], None
    wanted = min(NEAREST, len(features) - 1)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    nearest = neighbours(features, features, wanted + 1)
    others = [[int(i) for i in row if i != place][:wanted] for place, row in enumerate(nearest)]
    labels = sample.labels[: len(features)]
    known = [labels[row] == labels[place] for place, row in enumerate(others) if labels[place] >= 0]
    queries = [
        Query(
            name=sample.names[place],
            label=sample.label(place),
            picture=Picture(sample.visible(place), longest=96),
            nearest=[
                Found(
                    name=sample.names[other],
                    label=sample.label(other),
                    picture=Picture(sample.visible(other), longest=96),
                    similarity=float(unit[place] @ unit[other]),
                    same=bool(labels[place] == labels[other]) if labels[place] >= 0 and labels[other] >= 0 else None,
                )
                for other in others[place]
            ],
        )
        for place in range(min(QUERIES, len(features)))
    ]
    return queries, float(np.mean(np.concatenate(known))) if known else None
