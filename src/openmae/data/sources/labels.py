"""Labels as a data set gives them. A task reads them as classes, as labels, or as numbers."""

from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.sources.reading_labels import read_classes, read_labels, read_numbers
from openmae.data.targets import UNKNOWN_CLASS, Kind, Targets

UNLABELLED = UNKNOWN_CLASS


class GivenLabels:
    """The labels of N images, in the data set's own values.

    Args:
        values: int64, float64, string, or lists of int64 or string; null where an image has no label. As `plain_labels`
            makes them.
        where: the file or folder that they come from, for messages.
        names: of the classes that integers number, where the data set has names for them.
        train: the labels of the training split, whose names the texts of a test split are.
        rows: the place in `values` of each image, -1 for an image without one; when not given, value i is of image i.
    """

    def __init__(
        self,
        values: pa.ChunkedArray,
        *,
        where: str,
        names: tuple[str, ...] = (),
        train: "GivenLabels | None" = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.values, self.where, self.names, self._train, self._rows = values, where, names, train, rows
        self._read: dict[Kind, Targets] = {}

    def any(self) -> bool:
        """Whether any image has a label."""
        given = pc.is_valid(self.values)
        if pa.types.is_integer(self.values.type):
            given = pc.and_kleene(given, pc.not_equal(self.values, UNLABELLED))
        return bool(pc.any(given).as_py())

    def targets(self, kind: Kind) -> Targets:
        """The labels as targets of this kind.

        Raises:
            UserError: when they are of another kind; the message says which task they fit.
        """
        if kind not in self._read:
            train = self._train.targets(kind).names if self._train is not None else ()
            read = READERS[kind](self.values, where=self.where, names=self.names, train=train)
            self._read[kind] = read if self._rows is None else read.subset(self._rows)
        return self._read[kind]


READERS = {"class": read_classes, "labels": read_labels, "number": read_numbers}


class ClassView(ABC):
    """Gives a source `labels` and `classes`: its targets of kind "class"."""

    @abstractmethod
    def targets(self, kind: Kind) -> Targets:
        """The labels of the images, read as targets of this kind."""

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.targets("class").values

    @property
    def classes(self) -> tuple[str, ...]:
        return self.targets("class").names


class Labelled(ClassView):
    """A source whose labels are `given` by the data set."""

    given: GivenLabels

    def targets(self, kind: Kind) -> Targets:
        return self.given.targets(kind)


def plain_labels(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of any number or text type, or of lists of them, as int64, float64, string, or lists of int64 or string.

    Fractional numbers become float64, all other numbers int64.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: when it is of no such type.
    """
    values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_null(values.type):
        return values
    if "list" in str(values.type):
        item = values.type.value_type
        return values.cast(pa.list_(pa.string() if "string" in str(item) else pa.int64()))
    if "string" in str(values.type) and not pa.types.is_nested(values.type):
        return values.cast(pa.string())
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return values.cast(pa.float64())


def numbers_if_all_are(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as integers where every one of them (and not null) is one; as float64 where all are numbers and some are
    fractions; else as they are. Empty texts are null.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    try:
        numbers = trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        return trimmed
    fractional = pc.and_(pc.is_finite(numbers), pc.not_equal(numbers, pc.floor(numbers)))
    return numbers if pc.any(fractional).as_py() else trimmed  # "1.0" may be the name of a class


def integers_if_all_are(lists: list[list[str] | None]) -> pa.ChunkedArray:
    """Lists of texts as lists of integers where every text is one, else as lists of texts."""
    texts = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    try:
        return texts.cast(pa.list_(pa.int64()))
    except pa.ArrowInvalid:
        return texts
