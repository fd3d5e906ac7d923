"""The same images with the same masks, reconstructed at several times of the training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openmae.checkpoints.checkpoint import DIRECTORY_NAME, list_checkpoints, step_of
from openmae.checkpoints.names import CHECKPOINTS, SAMPLES
from openmae.errors import UserError
from openmae.evaluation.quality.pictures import ABOUT
from openmae.evaluation.reconstructing import MASKED_GREY
from openmae.reporting.report.gallery import reconstructions
from openmae.reporting.report.pictures import Picture
from openmae.reporting.report.sample import Sample
from openmae.weights.building import load_autoencoder

T = TypeVar("T")
MOST_TIMES, MOST_ROWS = 12, 6
LARGEST_SIDE = 100_000


@dataclass(frozen=True, kw_only=True)
class OverTime:
    """One image: as it is, as the network sees it, and its reconstruction at each of the `steps` of `Frames`."""

    original: Picture
    masked: Picture
    reconstructions: list[Picture]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The images, and the steps at which they were reconstructed, in their order."""

    steps: list[int]
    images: list[OverTime]


def frames_of(run: Path) -> Frames | None:
    """From the pictures that the training has written; None where there are none that can be read."""
    try:
        layout = json.loads((run / SAMPLES / ABOUT).read_text(encoding="utf-8"))
        rows, (height, width), columns = int(layout["rows"]), map(int, layout["cell"]), list(layout["columns"])
        places = [columns.index(name) for name in ("original", "masked", "reconstruction")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    files = {
        step_of(file.with_suffix("")): file
        for file in (run / SAMPLES).glob("step-*.png")
        if DIRECTORY_NAME.fullmatch(file.stem)
    }
    size = (width * len(columns), height * rows)
    if not files or not (0 < size[0] <= LARGEST_SIDE and 0 < size[1] <= LARGEST_SIDE):
        return None
    steps, grids = list[int](), list[NDArray[np.uint8]]()
    for step in spread(sorted(files)):
        try:
            with Image.open(files[step]) as picture:
                if picture.size == size:
                    grids.append(np.asarray(picture.convert("RGB")))
                    steps.append(step)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    if not steps:
        return None

    def cell(grid: int, row: int, column: int) -> NDArray[np.uint8]:
        top, left = row * height, column * width
        return grids[grid][top : top + height, left : left + width]

    def completed(grid: int, row: int) -> Picture:
        """The reconstruction with the visible patches in it: those of the prediction are not trained."""
        hidden = (cell(-1, row, places[1]) == MASKED_GREY).all(axis=2, keepdims=True)
        return Picture(np.where(hidden, cell(grid, row, places[2]), cell(-1, row, places[0])))

    return Frames(
        steps=steps,
        images=[
            OverTime(
                original=Picture(cell(-1, row, places[0])),
                masked=Picture(cell(-1, row, places[1])),
                reconstructions=[completed(grid, row) for grid in range(len(grids))],
            )
            for row in range(min(rows, MOST_ROWS))
        ],
    )


def frames_from_checkpoints(run: Path, sample: Sample, *, seed: int) -> Frames | None:
    """From the checkpoints that are left, of which the first weights are one; None when no two can be read."""
    places = np.arange(min(MOST_ROWS, len(sample)))
    steps, made = [], []
    for checkpoint in spread(list_checkpoints(run / CHECKPOINTS)[::-1]):
        try:
            loaded = load_autoencoder(checkpoint)
        except UserError:
            continue
        loaded = loaded._replace(network=sample.network)
        made.append(list(reconstructions(loaded, sample, places, seed=seed)))
        steps.append(step_of(checkpoint))
    if len(steps) < 2:
        return None
    return Frames(
        steps=steps,
        images=[
            OverTime(
                original=made[-1][place][0],
                masked=made[-1][place][1],
                reconstructions=[pictures[place][2] for pictures in made],
            )
            for place in range(len(places))
        ],
    )


def spread(items: list[T], most: int = MOST_TIMES) -> list[T]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]
