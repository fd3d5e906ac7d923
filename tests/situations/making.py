"""Small data sets shaped like ones that people have: textures whose class is the frequency of their stripes."""

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

FREQUENCIES = (0.15, 0.45, 0.8)


def stripes(seed: int, kind: int, *, side: int = 48) -> NDArray[np.uint8]:
    """A colour picture [side, side, 3] of class `kind`, with noise of its own."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:side, 0:side]
    phases = rng.uniform(0, 6, 2)
    waves = np.sin(FREQUENCIES[kind] * column + phases[0]) * np.cos(FREQUENCIES[kind] * row + phases[1])
    bands = [127 + 80 * waves + 30 * np.sin(kind + band) for band in range(3)]
    pixels: NDArray[np.uint8] = (
        (np.stack(bands, axis=-1) + rng.normal(0, 12, (side, side, 3))).clip(0, 255).astype(np.uint8)
    )
    return pixels


def png(pixels: NDArray[Any]) -> bytes:
    """An encoded picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """A picture in a folder that is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_classes(folder: Path, *, kinds: Sequence[int], each: int, seed: int = 0, name: str = "c") -> None:
    """A folder for each class, with `each` pictures."""
    for kind in kinds:
        for number in range(each):
            write_picture(folder / f"{name}{kind}" / f"{number:03d}.png", stripes(seed + 100 * kind + number, kind))


def write_plain(root: Path, *, train: int = 16, val: int = 6) -> None:
    """train/ and val/ of three classes."""
    write_classes(root / "train", kinds=range(3), each=train)
    write_classes(root / "val", kinds=range(3), each=val, seed=1000)


def write_flat(folder: Path, count: int, *, kinds: int = 3, seed: int = 0) -> list[tuple[str, int]]:
    """Pictures beside each other; returns the name and the class of each."""
    rows = [(f"{number:03d}.png", number % kinds) for number in range(count)]
    for number, (name, kind) in enumerate(rows):
        write_picture(folder / name, stripes(seed + number, kind))
    return rows


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    """A label file with the columns path and label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def write_parquet(path: Path, rows: Iterable[tuple[bytes, Any]], *, names: Sequence[str] | None = None) -> None:
    """Pictures and labels in Hugging Face layout, with the names of the classes if there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"image": {"bytes": data, "path": f"{row}.png"}, "label": label} for row, (data, label) in enumerate(rows)]
    table = pa.Table.from_pylist(cells)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """A shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
