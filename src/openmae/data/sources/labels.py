"""Labels as numbers: from numbers or texts that a data set gives its images to int64 and the names of classes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.errors import UserError

UNLABELLED = -1
MAX_CLASSES = 1_000_000

Labels = NDArray[np.int64]


def number_labels(
    values: pa.ChunkedArray, *, where: str, names: tuple[str, ...] = (), train: tuple[str, ...] = ()
) -> tuple[Labels, tuple[str, ...]]:
    """Labels [N] int64 (-1 where there is none) and the names of their classes.

    Args:
        values: integers, or texts, whose distinct values in their order become the classes.
        where: what an error message calls the place that the values come from.
        names: of the classes, when the data set gives them.
        train: the classes of the training split, which number the texts of a test split; a text that is none of them
            is unlabelled.

    Raises:
        UserError: for integers below -1 or without a class.
    """
    if pa.types.is_string(values.type):
        return _number_texts(values, names or train)
    labels = values.fill_null(UNLABELLED).to_numpy().astype(np.int64)
    lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (UNLABELLED, UNLABELLED)
    if lowest < UNLABELLED or highest >= MAX_CLASSES:
        wrong = lowest if lowest < UNLABELLED else highest
        raise UserError(f"{where} has label {wrong}; write class numbers, 0 … classes-1, or -1 for no label")
    classes = names or tuple(str(number) for number in range(highest + 1))
    if highest >= len(classes):
        raise UserError(
            f"{where} has label {highest} but names only {len(classes)} classes; repair its labels or its metadata"
        )
    return labels, classes


def _number_texts(values: pa.ChunkedArray, classes: tuple[str, ...]) -> tuple[Labels, tuple[str, ...]]:
    classes = classes or tuple(sorted(text for text in pc.unique(values).to_pylist() if text))
    numbers = pc.index_in(values, value_set=pa.array(classes, pa.string()))
    return numbers.fill_null(UNLABELLED).to_numpy().astype(np.int64), classes


def numbers_if_all_are(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as integers where every one of them (and not null) is an integer, else as they are; empty ones are null."""
    trimmed = pc.utf8_trim_whitespace(texts)
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        return trimmed
