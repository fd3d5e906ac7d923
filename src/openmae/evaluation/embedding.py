"""Features of every image of a data set, written to Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openmae.data.sources import classes_if_any, open_data
from openmae.data.targets import Targets
from openmae.errors import UserError
from openmae.evaluation.features import BATCH_SIZE, Features, extract_features
from openmae.reporter import say
from openmae.training.processes.devices import measuring_processes
from openmae.weights.building import encoder_from
from openmae.weights.reading import read_weights


def embed(
    weights: str | Path,
    data: str,
    out: Path,
    *,
    labels: str | None = None,
    batch_size: int = BATCH_SIZE,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, int]:
    """Write one row per readable image: path, split, label, class, and features `cls` and `mean`.

    Masking is off and nothing is random: the same file and the same weights give the same rows.

    Returns:
        How many `images` were written and how many were `bad`.
    """
    fabric = measuring_processes(devices=devices, nodes=nodes)
    loaded = read_weights(weights)
    vit = encoder_from(loaded)
    opened = open_data(data, labels=labels)
    tables, bad = [], 0
    for split, source in opened.splits.items():
        features = extract_features(vit, loaded.network, source, batch_size=batch_size, fabric=fabric)
        bad += len(features.bad)
        if features.bad:
            first = features.bad[0]
            say(f"{len(features.bad)} images could not be decoded and were left out, e.g. {first.name}: {first.reason}")
        names = [source.name(int(index)) for index in features.indices]
        tables.append(_table(names, split, features, classes_if_any(source).subset(features.indices)))
    table = pa.concat_tables(tables)
    counts = {"images": len(table), "bad": bad}
    if not fabric.is_global_zero:
        return counts
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, out)
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); give --out a file in a folder that you may write"
        ) from error
    return counts


def _table(names: list[str], split: str, features: Features, classes: Targets) -> pa.Table:
    labels, known = classes.values, classes.known
    columns = {
        "path": pa.array(names),
        "split": pa.array([split] * len(names)),
        "label": pa.array(labels, mask=~known),
        "class": pa.array(
            [classes.names[label] if there else None for label, there in zip(labels, known, strict=True)],
            type=pa.string(),
        ),
        "mean": _vectors(features.mean),
    }
    if features.cls is not None:
        columns["cls"] = _vectors(features.cls)
    return pa.table(columns)


def _vectors(features: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(features).reshape(-1), type=pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
