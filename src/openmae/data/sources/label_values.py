"""Label columns in plain types, whatever type a file stores them in."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openmae.data.targets import UNKNOWN_CLASS
from openmae.errors import UserError

SEPARATOR = ";"
NONE_OF_THEM = "-"
NOT_A_NUMBER = "nan"


class PlainLabels(NamedTuple):
    """Labels in plain types.

    `values` are int64, float64, string, or lists of int64 or string; null where an image has no label. `names` are
    those of the classes that the integers number, where the data set has such names; else ().
    """

    values: pa.ChunkedArray
    names: tuple[str, ...] = ()

    @property
    def are_lists(self) -> bool:
        return bool(pa.types.is_list(self.values.type))

    @property
    def item(self) -> pa.DataType:
        """The type of one label."""
        return self.values.type.value_type if self.are_lists else self.values.type

    @property
    def are_numbers_without_names(self) -> bool:
        return not self.names and bool(pa.types.is_integer(self.item))


def plain_labels(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of any number or text type, or of lists of them, as int64, float64, string, or lists of int64 or string.

    Numbers become float64 where one of them is a fraction, else int64. NaN becomes null.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: when it is of no such type.
    """
    values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    kind = values.type
    if pa.types.is_null(kind):
        return values
    if "list" in str(kind) and not pa.types.is_struct(kind):
        item = kind.value_type
        return values.cast(pa.list_(pa.string() if _is_text(item) else _integers(item)))
    if _is_text(kind):
        return values.cast(pa.string())
    if pa.types.is_floating(kind):
        return whole_numbers(values.cast(pa.float64()))
    try:
        return values.cast(_integers(kind))
    except pa.ArrowInvalid:
        # Fractions of a decimal type; or numbers beyond 64 bits, which are identifiers and keep their digits as texts.
        return values.cast(pa.float64() if pa.types.is_decimal(kind) else pa.string())


def to_plain(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """The same as `plain_labels`, for a column that an error message calls `where`.

    Raises:
        UserError: when it is of no such type.
    """
    try:
        return plain_labels(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{where} has labels of the type {column.type}, which are no classes and no numbers; write class "
            "numbers or names, lists of these, or numbers"
        ) from error


def whole_numbers(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as int64 where all of them are whole, else as they are; NaN becomes null."""
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    try:
        return numbers.cast(pa.int64())
    except pa.ArrowInvalid:
        return numbers


def numbers_if_all_are(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as integers where every one of them (and not null) is one; as float64 where all are numbers and some are
    fractions; else as they are. Empty texts, and "nan", which is how a missing number is written, are null.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    missing = pc.or_(pc.equal(trimmed, ""), pc.equal(pc.utf8_lower(trimmed), NOT_A_NUMBER))
    trimmed = pc.if_else(missing, None, trimmed)
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


def lists_of_cells(cells: Sequence[str | None]) -> pa.ChunkedArray:
    """Cells with several labels between semicolons as lists; "-" is an empty list, and an empty cell null."""
    lists: list[list[str] | None] = []
    for cell in cells:
        items = [item.strip() for item in (cell or "").split(SEPARATOR) if item.strip()]
        lists.append([] if items == [NONE_OF_THEM] else items or None)
    return integers_if_all_are(lists)


def integers_if_all_are(lists: list[list[str] | None]) -> pa.ChunkedArray:
    """Lists of texts as lists of integers where every text is one, else as lists of texts."""
    texts = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    try:
        return texts.cast(pa.list_(pa.int64()))
    except pa.ArrowInvalid:
        return texts


def as_lists(labels: PlainLabels) -> PlainLabels:
    """Single labels as lists of one. The text "-" is an empty list, unless it names a class."""
    if labels.are_lists:
        return labels
    single = labels.values.to_pylist()
    none = NONE_OF_THEM if NONE_OF_THEM not in labels.names else None
    lists: list[list[Any] | None] = [
        None if value is None else [] if none is not None and value == none else [value] for value in single
    ]
    return PlainLabels(pa.chunked_array([pa.array(lists, pa.list_(labels.values.type))]), labels.names)


def checked(labels: PlainLabels, where: str) -> PlainLabels:
    """The same labels, when each of them has a meaning; a class number of -1 becomes null, as does an empty text.

    Texts without names that have semicolons are several labels each.

    Raises:
        UserError: for a number or a text that `names` do not give a meaning.
    """
    names = _told_apart(labels.names)
    if pa.types.is_string(labels.item):
        values = labels.values
        if not labels.are_lists:
            values = pc.if_else(pc.equal(values, ""), None, values)
            if not names and pc.any(pc.match_substring(values, SEPARATOR)).as_py():
                return PlainLabels(lists_of_cells(values.to_pylist()))
        unknown = next((text for text in distinct(PlainLabels(values)) if text not in names), None) if names else None
        if unknown is not None:
            raise UserError(
                f"{where} has label '{unknown}', which is none of the {len(names)} classes that it names; repair its "
                "labels or its metadata"
            )
        return PlainLabels(values, names)
    if not names or not pa.types.is_integer(labels.item):
        return PlainLabels(labels.values, names)
    numbers = distinct(labels)
    if numbers and numbers[-1] >= len(names):
        raise UserError(
            f"{where} has label {numbers[-1]} but names only {len(names)} classes; repair its labels or its metadata"
        )
    if numbers and numbers[0] < UNKNOWN_CLASS:
        raise UserError(
            f"{where} has label {numbers[0]} but names {len(names)} classes; write class numbers, 0 … {len(names) - 1},"
            " or -1 for no label"
        )
    values = labels.values
    if not numbers or numbers[0] != UNKNOWN_CLASS:
        return PlainLabels(values, names)
    if labels.are_lists:
        lists = [_without_unknown(items) for items in values.to_pylist()]
        return PlainLabels(pa.chunked_array([pa.array(lists, values.type)]), names)
    return PlainLabels(pc.if_else(pc.equal(values, UNKNOWN_CLASS), None, values), names)


def distinct(labels: PlainLabels) -> list[Any]:
    """The labels that occur, in their order: numbers as numbers, texts as texts."""
    values = labels.values
    items = pc.list_flatten(values) if labels.are_lists else values
    found = [value for value in pc.unique(items).to_pylist() if value is not None and value != ""]
    return sorted(found)


def example(values: pa.ChunkedArray) -> str:
    """One value for a message, of the ones that show what kind the values are."""
    shown = [value for value in values.slice(0, 1000).to_pylist() if value is not None]
    if shown and isinstance(shown[0], list):
        return SEPARATOR.join(map(str, max(shown, key=len)[:3])) or NONE_OF_THEM
    return next((f"{value:g}" for value in shown if math.isfinite(value) and value != int(value)), "none")


def _without_unknown(items: list[int] | None) -> list[int] | None:
    if not items:
        return items
    return [item for item in items if item != UNKNOWN_CLASS] or None


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each of them once: a second "crane" becomes "crane (517)", because it is another class."""
    if len(set(names)) == len(names):
        return names
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    return tuple(name if first[name] == place else f"{name} ({place})" for place, name in enumerate(names))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view")


def _integers(kind: pa.DataType) -> pa.DataType:
    """int64, for a type of numbers.

    Raises:
        pa.ArrowNotImplementedError: for dates, bytes and others, some of which Arrow would turn into numbers.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        raise pa.ArrowNotImplementedError(f"{kind} is no number")
    return pa.int64()


def null_labels(count: int) -> pa.ChunkedArray:
    """Labels of images that have none."""
    return pa.chunked_array([pa.nulls(count, pa.int64())])


def picked(values: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """The values at these places; null where a place is -1."""
    return values.take(pa.array(rows, mask=rows < 0))
