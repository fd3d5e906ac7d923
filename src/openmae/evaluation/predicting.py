"""The classes of new images, by a trained classifier, as a table."""

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from openmae.data.batches import Batch
from openmae.data.decoding import Pages
from openmae.data.pages import as_images
from openmae.data.sources import Data, Source, open_data
from openmae.data.sources.own_output import require_replaceable, sign_table
from openmae.data.transforms import normalise_pixels
from openmae.data.workers import automatic_workers
from openmae.errors import UserError
from openmae.evaluation.classifier import Classifier, load_classifier
from openmae.evaluation.forward import Passed, evaluation_images, run_over
from openmae.evaluation.measuring import EVALUATION_BATCH
from openmae.evaluation.results import PredictResult
from openmae.evaluation.spreadsheet import write_csv
from openmae.files import replacing
from openmae.recipes.values import PixelRange
from openmae.reporter import say
from openmae.training.deep_pixels import network_for_sources
from openmae.training.pixels import reading_of
from openmae.training.processes.devices import measuring_processes

FIRST = 10
CSV, PARQUET = ".csv", ".parquet"
NOT_A_NUMBER = "the network gives no number for it"


def predict(
    weights: str | Path,
    data: str | tuple[str, ...],
    *,
    out: Path | None = None,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> PredictResult:
    """Predict every image of every split; one row each, also for those that cannot be read.

    Raises:
        UserError: when the weights have no classifier, no image can be read, or `out` cannot be written.
    """
    fabric = measuring_processes(devices=devices, nodes=nodes)
    _require_place(out)
    classifier = load_classifier(weights)
    reading = reading_of(classifier.network, pages=pages, max_pixels=max_pixels)
    opened = as_images(open_data(data), reading)
    say(_sentence(opened))
    classifier.network = network_for_sources(
        classifier.network, list(opened.splits.values()), reading, pixel_range=pixel_range
    )
    classifier.to(fabric.device)
    tables, bad = [], 0
    for split, source in opened.splits.items():
        passed = run_over(
            fabric,
            evaluation_images(classifier.network, source, reading=reading),
            lambda batch: _answers(classifier, batch),
            empty=classifier.task.answers(torch.empty(0, classifier.task.outputs)),
            batch_size=EVALUATION_BATCH,
            workers=automatic_workers(),
            title="predictions",
        )
        assert passed is not None, "nobody gives up"
        table = _table(classifier, split, source, passed)
        unreadable = len(table) - table["error"].null_count
        if unreadable:
            first = table.filter(pc.is_valid(table["error"])).slice(0, 1).to_pylist()[0]
            say(
                f"{unreadable} of {len(table)} images of {split} have no prediction, such as {first['path']}: "
                f"{first['error']}"
            )
        bad += unreadable
        tables.append(table)
    table = pa.concat_tables(tables)
    if out is not None and fabric.is_global_zero:
        _write(table, out)
    return {
        "task": classifier.task.name,
        "weights": str(weights),
        "images": len(table) - bad,
        "unreadable": bad,
        "predicted": _counts(table),
        "data": {
            "splits": {split: len(source) for split, source in opened.splits.items()},
            "left_out": [left._asdict() for left in opened.left_out],
        },
        "first": table.slice(0, FIRST).to_pylist(),
        "out": None if out is None else str(out),
    }


def _sentence(data: Data) -> str:
    """The splits and what is left out: "train: 48 images; val: 18; left out: extra.tar"."""
    parts = [
        f"{split}: {len(source):,}{'' if place else ' images'}"
        for place, (split, source) in enumerate(data.splits.items())
    ]
    left_out = ", ".join(left.what for left in data.left_out)
    return "; ".join([*parts, *([f"left out: {left_out}"] if left_out else [])])


@torch.inference_mode()
def _answers(classifier: Classifier, batch: Batch) -> Tensor:
    network = classifier.network
    outputs: Tensor = classifier(normalise_pixels(batch.images, network.mean, network.std))
    return classifier.task.answers(outputs.float())


def _table(classifier: Classifier, split: str, source: Source, passed: Passed) -> pa.Table:
    """The rows of a split, in the order of its images."""
    finite = passed.rows.flatten(1).isfinite().all(dim=1) if passed.rows.dim() > 1 else passed.rows.isfinite()
    rows, indices = passed.rows[finite], passed.indices[finite.numpy()]
    errors = {record.image: record.reason for record in passed.bad}
    errors |= dict.fromkeys(passed.indices[~finite.numpy()].tolist(), NOT_A_NUMBER)
    place = np.full(len(source), -1)
    place[indices] = np.arange(len(indices))
    taken = pa.array(place, mask=place < 0)
    return pa.table(
        {
            "path": pa.array([source.name(index) for index in range(len(source))], pa.string()),
            "split": pa.array([split] * len(source), pa.string()),
            **{name: column.take(taken) for name, column in classifier.task.columns(rows).items()},
            "error": pa.array([errors.get(index) for index in range(len(source))], pa.string()),
        }
    )


def _counts(table: pa.Table) -> dict[str, int]:
    """How many images each class or label was predicted for, the most frequent first; none for numbers."""
    if "label" in table.column_names:
        labels = table["label"]
    elif "labels" in table.column_names:
        labels = pc.list_flatten(table["labels"])
    else:
        return {}
    counted = [(one["values"], one["counts"]) for one in pc.value_counts(labels.drop_null()).to_pylist()]
    return dict(sorted(counted, key=lambda one: (-one[1], one[0])))


def _require_place(out: Path | None) -> None:
    """Raise UserError, before any work, when the table could not be written."""
    if out is None:
        return
    if out.suffix.lower() not in (CSV, PARQUET):
        raise UserError(f"--out {out} is neither CSV nor Parquet; give a name that ends in {CSV} or {PARQUET}")
    require_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    if not os.access(out.parent, os.W_OK) or out.is_dir():
        raise _unwritable(out, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _write(table: pa.Table, out: Path) -> None:
    try:
        with replacing(out) as temporary:
            if out.suffix.lower() == PARQUET:
                pq.write_table(sign_table(table, "predictions"), temporary)
            else:
                write_csv(table, temporary)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {out} ({error.strerror}); give --out a file in a folder that you may write")
