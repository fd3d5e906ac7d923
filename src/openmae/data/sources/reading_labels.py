"""Reading the labels of a data set as targets of one kind; labels of another kind are refused by a sentence."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.sources.joining_labels import Vocabulary
from openmae.data.sources.label_values import PlainLabels, as_lists, distinct, example, picked
from openmae.data.targets import UNKNOWN_CLASS, Targets
from openmae.errors import UserError

MAX_CLASSES = 1_000_000
MAX_LABELS = 20_000  # every image has a place for each of them
OTHER_SEPARATORS = ("|", ",", "/", "+", "&", " ")


def read_classes(labels: PlainLabels, *, where: str, train: Vocabulary | None = None) -> Targets:
    """One class for each image.

    Args:
        labels: integers or texts. The classes are their names, where the data set has names; else the values that
            occur: numbers in the order of numbers, texts in the order of texts. Lists must have one label each.
        where: what an error message calls the place that the labels come from.
        train: the classes of the training split, which come first; classes that it lacks come behind them.

    Raises:
        UserError: for lists of several labels, texts of several labels, fractions, and too many classes.
    """
    labels = _one_of_each_list(labels, where)
    _require_no_fractions(labels, where, "classes")
    _require_one_in_a_text(labels, where)
    names, numbers = _numbered(labels, labels.values, train)
    if len(names) > MAX_CLASSES:
        raise UserError(
            f"{where} has {len(names):,} classes, more than {MAX_CLASSES:,}; give labels that several images share, or "
            "use linear or finetune with --task regression for numbers"
        )
    return Targets(kind="class", values=numbers, known=numbers != UNKNOWN_CLASS, names=names)


def read_labels(labels: PlainLabels, *, where: str, train: Vocabulary | None = None) -> Targets:
    """Any number of labels for each image: every label is there or not.

    Args:
        labels: lists of integers or texts; or integers or texts ("-": none of them), each of which is the only label of
            its image. An empty list says that the image has none of the labels; null says that nothing is known.
        where, train: as for `read_classes`.

    Raises:
        UserError: for fractions, and for too many labels.
    """
    _require_no_fractions(labels, where, "labels")
    _require_one_in_a_text(labels, where)
    labels = as_lists(labels)
    lists = labels.values.combine_chunks()
    items, images = pc.list_flatten(lists), pc.list_parent_indices(lists)
    filled = pc.and_(pc.is_valid(items), pc.not_equal(items, "") if pa.types.is_string(items.type) else True)
    items, images = items.filter(filled), images.filter(filled).to_numpy()
    names, places = _numbered(labels, pa.chunked_array([items]), train)
    if len(names) > MAX_LABELS:
        raise UserError(
            f"{where} has {len(names):,} labels, more than {MAX_LABELS:,}; use --task classification, or leave out "
            "rare ones"
        )
    known = lists.is_valid().to_numpy(zero_copy_only=False)
    hot = np.zeros((len(lists), len(names)), dtype=bool)
    hot[images, places] = True
    return Targets(kind="labels", values=hot, known=known, names=names)


def read_numbers(
    labels: PlainLabels,
    *,
    where: str,
    train: Vocabulary | None = None,  # noqa: ARG001  # numbers have no names
) -> Targets:
    """One number for each image.

    Args:
        labels: numbers, or texts or names of classes that are numbers themselves: 15, 30, …
        where: as for `read_classes`.

    Raises:
        UserError: for lists, names, and infinite numbers.
    """
    values, names = labels
    if labels.are_lists:
        raise UserError(
            f"{where} gives several labels to an image (such as {example(values)}), not a number; use linear or "
            "finetune with --task multilabel"
        )
    try:
        if names and pa.types.is_integer(values.type):
            values = pa.array(names, pa.string()).cast(pa.float64()).take(values.combine_chunks())
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid as error:
        found = ", ".join((names or tuple(distinct(labels)))[:3])
        raise UserError(f"{where} names classes ({found}, …), not numbers; use --task classification") from error
    finite = numbers.fill_null(np.nan).to_numpy().astype(np.float32)
    if np.isinf(finite).any():
        raise UserError(f"{where} has a number that is infinite; leave the label of that image empty")
    return Targets(kind="number", values=finite, known=~np.isnan(finite))


READERS = {"class": read_classes, "labels": read_labels, "number": read_numbers}


def _numbered(
    labels: PlainLabels, items: pa.ChunkedArray, train: Vocabulary | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the classes, and the number of each item among them; -1 for null."""
    occurring: list[Any] = distinct(labels)
    if labels.names and pa.types.is_integer(items.type):
        own, numbers = labels.names, items
        used = tuple(own[number] for number in occurring)
    else:
        numbers = pc.index_in(items, value_set=pa.array(labels.names or occurring, items.type))
        own = labels.names or tuple(map(str, occurring))
        used = tuple(map(str, occurring))
    places = numbers.fill_null(UNKNOWN_CLASS).to_numpy().astype(np.int64)
    if train is None or not train.names:
        return own, places
    names = train.extended(used)
    place = {name: number for number, name in enumerate(names)}
    # Its last -1 is for the images without a label; a name that does not occur may be one that `names` lacks.
    return names, np.array([*(place.get(name, UNKNOWN_CLASS) for name in own), UNKNOWN_CLASS], dtype=np.int64)[places]


def _one_of_each_list(labels: PlainLabels, where: str) -> PlainLabels:
    """The only label of each list, such as the one column of a table that has 1."""
    if not labels.are_lists:
        return labels
    lists = labels.values.combine_chunks()
    lengths = pc.list_value_length(lists)
    if pc.any(pc.greater(lengths, 1)).as_py():
        raise UserError(
            f"{where} gives several labels to an image (such as {example(labels.values)}), not one class; use linear "
            "or finetune with --task multilabel"
        )
    if pc.any(pc.equal(lengths, 0)).as_py():
        raise UserError(
            f"{where} says of some images that they have none of the labels, which is no class; use linear or finetune "
            "with --task multilabel"
        )
    singles = pc.list_flatten(lists)
    places = np.full(len(lists), -1, dtype=np.int64)
    places[lists.is_valid().to_numpy(zero_copy_only=False)] = np.arange(len(singles))
    return PlainLabels(picked(pa.chunked_array([singles]), places), labels.names)


def _require_no_fractions(labels: PlainLabels, where: str, wanted: str) -> None:
    if pa.types.is_floating(labels.item):
        raise UserError(
            f"{where} gives numbers (such as {example(labels.values)}), not {wanted}; use linear or finetune with "
            "--task regression"
        )


def _require_one_in_a_text(labels: PlainLabels, where: str) -> None:
    """Raise UserError for texts such as "crack|rust" beside "crack" and "rust": several labels in each.

    They are told from names of classes, such as "tench, Tinca tinca", by their parts: these are labels of their own or
    all numbers, and there are fewer of them than texts.
    """
    if labels.names or not pa.types.is_string(labels.item):
        return
    texts = distinct(labels)
    written = next((text for text in texts if re.fullmatch(r"\[.*\]|\{.*[,:].*\}|\(.*,.*\)", text)), None)
    if written is not None:
        raise UserError(
            f"{where} gives lists that are written as texts (such as {written[:80]}), not one class; write the labels "
            "with semicolons in a file for --labels, and use linear or finetune with --task multilabel"
        )
    for separator in OTHER_SEPARATORS:
        several = next((text for text in texts if separator in text), None)
        if several is None:
            continue
        parts = {text: [part.strip() for part in text.split(separator)] for text in texts}
        single = {part for text in texts for part in parts[text]}
        alone = all(part in texts for part in single) or all(re.fullmatch(r"\d+", part) for part in single)
        if alone and len(single) < len(texts):
            raise UserError(
                f"{where} gives several labels to an image (such as {several}), not one class; write them with "
                "semicolons in a file for --labels, and use linear or finetune with --task multilabel"
            )
