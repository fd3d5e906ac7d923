"""Images made for a task: several labels, or a number, that anybody can see."""

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

QUARTERS = ("top left", "top right", "bottom left", "bottom right")


def quarters(rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[str]]:
    """A picture whose bright quarters are its labels, often none."""
    bright = rng.random(4) < 0.4
    pixels = rng.integers(0, 60, (28, 28))
    pixels += 180 * bright.reshape(2, 2).repeat(14, axis=0).repeat(14, axis=1)
    return pixels.astype(np.uint8), [name for name, there in zip(QUARTERS, bright, strict=True) if there]


def brightness(rng: np.random.Generator) -> tuple[NDArray[np.uint8], float]:
    """A picture of noise and its mean, in per mille."""
    level = rng.integers(20, 200)
    return (level + rng.integers(0, 50, (28, 28))).astype(np.uint8), 1000 * (level + 24.5) / 255


def write_images(
    folder: Path, kind: Literal["labels", "number"], *, train: int, test: int, broken: tuple[int, ...] = ()
) -> Path:
    """Both splits as Parquet; those at the places `broken` cannot be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate((("train", train), ("test", test))):
        rng = np.random.default_rng(seed)
        made: list[Any] = [quarters(rng) if kind == "labels" else brightness(rng) for _ in range(count)]
        rows = []
        for place, (pixels, _) in enumerate(made):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            rows.append({"bytes": b"no image" if place in broken else file.getvalue(), "path": None})
        layout = pa.list_(pa.string()) if kind == "labels" else pa.float64()
        labels = pa.array([label for _, label in made], layout)
        pq.write_table(pa.table({"image": rows, "label": labels}), folder / f"{split}.parquet")
    return folder
