"""Features of every image of a data set, written to Parquet."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from timm.models.vision_transformer import VisionTransformer

from openmae.core.network import Network
from openmae.data.batches import SeededImages
from openmae.data.decoding import Pages
from openmae.data.pages import as_images
from openmae.data.sources import classes_if_any, open_data
from openmae.data.sources.data_set import Subset
from openmae.data.sources.own_output import require_replaceable, sign_table
from openmae.data.sources.taking import everything, record_of_all
from openmae.data.targets import Targets
from openmae.errors import UserError
from openmae.evaluation.features import BATCH_SIZE, FeatureModel, Features, extract_features
from openmae.evaluation.forward import evaluation_images
from openmae.evaluation.results import EmbedResult
from openmae.files import replacing
from openmae.recipes.values import PixelRange
from openmae.reporter import say
from openmae.training.deep_pixels import network_for_sources
from openmae.training.pixels import reading_of
from openmae.training.processes.devices import measuring_processes
from openmae.weights.building import encoder_from
from openmae.weights.finding import is_onnx
from openmae.weights.reading import read_weights


class Embedded(NamedTuple):
    """What was written: the `table` itself, and the images of its rows, `parts` behind each other."""

    result: EmbedResult
    table: pa.Table
    parts: tuple[SeededImages, ...]


def embed(
    weights: str | Path,
    data: str | tuple[str, ...],
    out: Path,
    *,
    labels: str | None = None,
    batch_size: int = BATCH_SIZE,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
    devices: int = 1,
    nodes: int = 1,
    then: Callable[[Embedded], None] | None = None,
) -> EmbedResult:
    """Write one row per readable image: path, split, label, class, and features `cls` and `mean`.

    Masking is off and nothing is random: the same file and the same weights give the same rows.

    Args:
        then: called in the first process, once the file is written.
    """
    require_replaceable(out)
    fabric = measuring_processes(devices=devices, nodes=nodes)
    encoder, trained = _encoder(weights)
    reading = reading_of(trained, pages=pages, max_pixels=max_pixels)
    opened = as_images(open_data(data, labels=labels), reading)
    network = network_for_sources(trained, list(opened.splits.values()), reading, pixel_range=pixel_range)
    classes = {split: classes_if_any(source) for split, source in opened.splits.items()}
    say(everything(opened, classes))
    # Splits may have classes that no other has: one number means one class in the whole table.
    every_class = tuple(dict.fromkeys(name for targets in classes.values() for name in targets.names))
    tables, parts, bad = [], list[SeededImages](), 0
    for split, source in opened.splits.items():
        features = extract_features(encoder, network, source, reading=reading, batch_size=batch_size, fabric=fabric)
        bad += len(features.bad)
        if features.bad:
            first = features.bad[0]
            say(f"{len(features.bad)} images could not be decoded and were left out, e.g. {first.name}: {first.reason}")
        parts.append(evaluation_images(network, Subset(source, features.indices), reading=reading))
        names = [source.name(int(index)) for index in features.indices]
        tables.append(_table(names, split, features, classes[split].numbered(every_class).subset(features.indices)))
    table = pa.concat_tables(tables)
    result: EmbedResult = {
        "images": len(table),
        "bad": bad,
        "data": record_of_all(opened, classes),
        "out": str(out),
    }
    if not fabric.is_global_zero:
        return result
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            pq.write_table(sign_table(table, "features"), temporary)
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); give --out a file in a folder that you may write"
        ) from error
    if then is not None:
        then(Embedded(result, table, tuple(parts)))
    return result


def _encoder(spec: str | Path) -> tuple[VisionTransformer | FeatureModel, Network]:
    if is_onnx(spec):
        from openmae.evaluation.onnx.running import OnnxEncoder, open_onnx

        graph = open_onnx(Path(spec), "encoder")
        return OnnxEncoder(graph), graph.network
    weights = read_weights(spec)
    return encoder_from(weights), weights.network


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
