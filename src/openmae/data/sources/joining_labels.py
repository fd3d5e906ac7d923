"""Classes are names: labels of several splits or sources are joined by the names of their classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from openmae.data.sources.label_values import PlainLabels, as_lists, distinct
from openmae.errors import UserError
from openmae.reporter import say


class Vocabulary(NamedTuple):
    """The classes that the training split numbers."""

    names: tuple[str, ...]

    def extended(self, names: Sequence[str]) -> tuple[str, ...]:
        """These names, and behind them those of `names` that are new."""
        return tuple(dict.fromkeys((*self.names, *names)))


def in_terms_of(train: PlainLabels, labels: PlainLabels, where: str) -> PlainLabels:
    """Labels of a split, where only one of the two splits has names for its numbers.

    Numbers without names are then taken for the numbers of the classes that the training split names, and a message
    says so. Where the training split has numbers only, those of this split are compared as numbers.

    Raises:
        UserError: for a number that the training split has no name for.
    """
    if labels.are_numbers_without_names and train.names and pa.types.is_integer(train.item):
        numbers = distinct(labels)
        if not numbers:
            return labels
        if numbers[0] < -1 or numbers[-1] >= len(train.names):
            wrong = numbers[0] if numbers[0] < -1 else numbers[-1]
            raise UserError(
                f"{where} has label {wrong} without a name, but the training split names {len(train.names)} classes; "
                "give the names to both splits, or to none"
            )
        if numbers[-1] >= 0:
            say(
                f"{where} gives its classes no names: its numbers are taken for those of the training split "
                f"(0 is '{train.names[0]}')"
            )
        return PlainLabels(_without_minus_one(labels.values) if numbers[0] == -1 else labels.values, train.names)
    if labels.names and pa.types.is_integer(labels.item) and train.are_numbers_without_names and distinct(train):
        return PlainLabels(labels.values)
    return labels


def join(labels: Sequence[PlainLabels], places: Sequence[str]) -> PlainLabels:
    """Labels one behind the other.

    Raises:
        UserError: when some are fractions and others are classes.
    """
    has_labels = [bool(given.names or pc.any(pc.is_valid(given.values)).as_py()) for given in labels]
    labelled = [given for given, has in zip(labels, has_labels, strict=True) if has]
    if not labelled:
        return PlainLabels(_chunks([pa.nulls(len(given.values), pa.int64()) for given in labels], pa.int64()))
    if any(given.are_lists for given in labelled):
        labels = [as_lists(given) if has else given for given, has in zip(labels, has_labels, strict=True)]
        labelled = [given for given, has in zip(labels, has_labels, strict=True) if has]
    kind = labelled[0].values.type
    if all(given.values.type == kind and given.names == labelled[0].names for given in labelled):
        return PlainLabels(_concatenated(labels, kind), labelled[0].names)
    fractions = [pa.types.is_floating(given.values.type) for given in labels]
    if any(fractions):
        if all(given.are_numbers_without_names or pa.types.is_floating(given.values.type) for given in labelled):
            return PlainLabels(_concatenated(labels, pa.float64()))
        first = fractions.index(True)
        raise UserError(
            f"{places[first]} gives numbers with fractions and others give classes; give labels of one kind, or "
            "leave one of them out"
        )
    names: dict[str, None] = {}
    for given in labelled:
        names.update(dict.fromkeys(given.names or tuple(map(str, distinct(given)))))
    texts = [_as_texts(given) if has else given for given, has in zip(labels, has_labels, strict=True)]
    kind = pa.list_(pa.string()) if labelled[0].are_lists else pa.string()
    return PlainLabels(_concatenated(texts, kind), tuple(names) if any(given.names for given in labelled) else ())


def _as_texts(labels: PlainLabels) -> PlainLabels:
    """Class numbers as the names of the classes; numbers without names as texts."""
    if pa.types.is_string(labels.item):
        return labels

    def text(number: int) -> str:
        return labels.names[number] if labels.names else str(number)

    def value(given: Any) -> Any:
        return given if given is None else [text(item) for item in given] if labels.are_lists else text(given)

    kind = pa.list_(pa.string()) if labels.are_lists else pa.string()
    return PlainLabels(_chunks([pa.array([value(given) for given in labels.values.to_pylist()], kind)], kind))


def _concatenated(labels: Sequence[PlainLabels], kind: pa.DataType) -> pa.ChunkedArray:
    """The values one behind the other; those of unlabelled images are of any type."""
    parts: list[pa.Array] = []
    for given in labels:
        empty = given.values.null_count == len(given.values)
        parts.extend([pa.nulls(len(given.values), kind)] if empty else given.values.cast(kind).chunks)
    return _chunks(parts, kind)


def _chunks(parts: list[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array(parts, kind)


def _without_minus_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_list(values.type):
        return pc.if_else(pc.equal(values, -1), None, values)
    lists = [items and ([item for item in items if item != -1] or None) for items in values.to_pylist()]
    return pa.chunked_array([pa.array(lists, values.type)])
