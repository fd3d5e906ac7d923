"""The fingerprint of a run's data: names, sizes and labels of its images, so that a run continues on the same ones.

It is a table with a row for each image, in the order in which the run counts them. Bytes of images are not read: an
image that was exchanged for another one of the same name and size is not noticed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openmae.data.sources import Source
from openmae.data.sources.names_and_sizes import names_of, sizes_of
from openmae.data.targets import Targets
from openmae.errors import one_line
from openmae.files import replacing
from openmae.reporter import say

SCHEMA = pa.schema([("split", pa.string()), ("name", pa.large_string()), ("size", pa.int64()), ("label", pa.string())])
NOTES = b"openmae.data"
MOST_CLASSES_SHOWN = 10

_Key = tuple[str, str, int]
"""An image: its split and name, and of several with one name the how many-th it is."""
_Facts = tuple[int | None, str | None]
"""Size and label of an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """The images of a run.

    Args:
        images: split, name, size in bytes (null when unknown) and label (null when there is none) of each.
        classes: the names of the classes or labels, in the order of the network's outputs; () when labels do not count.
        weights: the digest of the weights that the run starts from; "" when it starts from fresh ones.
        accepted: the changes that the user accepted since the run began.
    """

    images: pa.Table
    classes: tuple[str, ...] = ()
    weights: str = ""
    accepted: tuple[str, ...] = ()

    def write(self, file: Path) -> None:
        notes = {"classes": self.classes, "weights": self.weights, "accepted": self.accepted}
        table = self.images.replace_schema_metadata({NOTES: json.dumps(notes)})
        with replacing(file) as temporary:
            # Names that follow each other begin alike.
            encoding = {"name": "DELTA_BYTE_ARRAY", "size": "DELTA_BINARY_PACKED"}
            pq.write_table(
                table, temporary, compression="zstd", use_dictionary=["split", "label"], column_encoding=encoding
            )


def take_fingerprint(
    images: Mapping[str, Source], targets: Mapping[str, Targets] | None = None, *, weights: str = ""
) -> Fingerprint:
    """The fingerprint of these splits.

    Args:
        images: the images that a run uses, by split.
        targets: their targets by split, where the run uses any.
        weights: see `Fingerprint`.
    """
    tables = []
    for split, source in images.items():
        size = sizes_of(source)
        labels = pa.nulls(len(source), pa.string()) if targets is None else label_texts(targets[split])
        columns = [
            pa.array([split] * len(source), pa.string()),
            names_of(source),
            pa.array(size, mask=size < 0),
            labels,
        ]
        tables.append(pa.table(columns, SCHEMA))
    named = () if not targets else next(iter(targets.values())).names
    return Fingerprint(images=pa.concat_tables(tables).combine_chunks(), classes=named, weights=weights)


def read_fingerprint(file: Path) -> Fingerprint | None:
    """The fingerprint in a run folder; None when there is none, or none that can be read, which is said."""
    try:
        table = pq.read_table(file)
        notes: dict[str, Any] = json.loads(table.schema.metadata[NOTES])
        return Fingerprint(
            images=table.cast(SCHEMA).combine_chunks(),
            classes=tuple(notes["classes"]),
            weights=notes["weights"],
            accepted=tuple(notes["accepted"]),
        )
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        say(f"{file} cannot be read ({one_line(error)}), so that nobody knows whether the images are the same")
        return None


def changes(old: Fingerprint, new: Fingerprint) -> str:
    """Every change of the images, in words such as "12 new, 3 gone, such as a.png"; "" when there is none."""
    if old.classes == new.classes and old.images.equals(new.images):
        return ""
    before, now = _rows(old.images), _rows(new.images)
    added, gone = [key for key in now if key not in before], [key for key in before if key not in now]
    both = [key for key in now if key in before]
    sizes = [key for key in both if None not in (before[key][0], now[key][0]) and before[key][0] != now[key][0]]
    labels = [key for key in both if before[key][1] != now[key][1]]
    found = [(added, "new"), (gone, "gone"), (labels, "with another label"), (sizes, "of another size")]
    parts = [f"{len(keys):,} {what}" for keys, what in found if keys]
    example = next((keys[0][1] for keys, _ in found if keys), None)
    if not parts and list(before) != list(now):
        parts, example = ["the images are in another order"], None
    if old.classes != new.classes:
        parts.append(f"classes {_shown(old.classes)} there and {_shown(new.classes)} now")
    return ", ".join(parts) + (f"; such as {example}" if example is not None else "")


def label_texts(targets: Targets) -> pa.Array:
    """The label of each image as text, null where there is none; classes by their names, whatever their numbers."""
    known = targets.known
    if targets.kind == "number":
        return pc.cast(pa.array(targets.values, pa.float32(), mask=~known), pa.string())
    names = pa.array(targets.names, pa.string())
    if targets.kind == "class":
        return names.take(pa.array(targets.values, pa.int64(), mask=~known)) if len(names) else pa.nulls(len(known))
    images, places = np.nonzero(targets.values)
    counts = np.bincount(images, minlength=len(known))
    lists = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), names.take(places))
    joined = pc.binary_join(lists, ";")
    return pc.if_else(pa.array(known), joined, pa.scalar(None, pa.string()))


def _rows(images: pa.Table) -> dict[_Key, _Facts]:
    seen: Counter[tuple[str, str]] = Counter()
    rows = {}
    for split, name, size, label in zip(*(images[column].to_pylist() for column in SCHEMA.names), strict=True):
        place = (split, name)
        rows[split, name, seen[place]] = (size, label)
        seen[place] += 1
    return rows


def _shown(classes: Sequence[str]) -> str:
    more = f" … {classes[-1]}" if len(classes) > MOST_CLASSES_SHOWN else ""
    return f"{', '.join(classes[:MOST_CLASSES_SHOWN])}{more}" or "none"
