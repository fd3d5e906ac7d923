"""Reading the labels of a data set as targets of one kind; labels of another kind are refused by a sentence."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.targets import UNKNOWN_CLASS, Targets
from openmae.errors import UserError

MAX_CLASSES = 1_000_000
MAX_LABELS = 20_000  # every image has a place for each of them
NONE_OF_THEM = "-"


def read_classes(
    values: pa.ChunkedArray, *, where: str, names: tuple[str, ...] = (), train: tuple[str, ...] = ()
) -> Targets:
    """One class for each image.

    Args:
        values: integers (-1: no label), or texts, whose distinct values in their order become the classes.
        where: what an error message calls the place that the values come from.
        names: of the classes, when the data set gives them.
        train: the classes of the training split, which number those of a test split by their names, whatever numbers
            the test split itself gives them; a class that is none of them is no label.

    Raises:
        UserError: for lists and fractions, and for integers below -1 or without a class.
    """
    if pa.types.is_list(values.type):
        raise UserError(
            f"{where} gives several labels to an image (such as {_example(values)}), not one class; use linear or "
            "finetune with --task multilabel"
        )
    if pa.types.is_floating(values.type):
        raise UserError(
            f"{where} gives numbers (such as {_example(values)}), not classes; use linear or finetune with --task "
            "regression"
        )
    if pa.types.is_string(values.type):
        classes = names or train or _distinct(values)
        numbers = pc.index_in(values, value_set=pa.array(classes, pa.string()))
    else:
        numbers, classes = values, names
    labels = numbers.fill_null(UNKNOWN_CLASS).to_numpy().astype(np.int64)
    lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (UNKNOWN_CLASS, UNKNOWN_CLASS)
    if lowest < UNKNOWN_CLASS or highest >= MAX_CLASSES:
        wrong = lowest if lowest < UNKNOWN_CLASS else highest
        raise UserError(
            f"{where} has label {wrong}; write class numbers, 0 … classes-1, or -1 for no label (for numbers to be "
            "predicted, use --task regression)"
        )
    classes = classes or tuple(str(number) for number in range(highest + 1))
    _require_names(highest, classes, where)
    if _differ(names, train):
        labels, classes = _numbers_in(train, names)[labels], train
    return Targets(kind="class", values=labels, known=labels != UNKNOWN_CLASS, names=classes)


def read_labels(
    values: pa.ChunkedArray, *, where: str, names: tuple[str, ...] = (), train: tuple[str, ...] = ()
) -> Targets:
    """Any number of labels for each image: every label is there or not.

    Args:
        values: lists of integers or texts; or integers (-1: no label is known) or texts ("-": none of them), each of
            which is the only label of its image. An empty list says that the image has none of the labels; null says
            that nothing is known.
        where, names, train: as for `read_classes`. An image of the test split with a text that is not in `train`
            has no target.

    Raises:
        UserError: for fractions, and for integers without a label.
    """
    if pa.types.is_floating(values.type):
        raise UserError(f"{where} gives numbers (such as {_example(values)}), not labels; use --task regression")
    lists = values.combine_chunks() if pa.types.is_list(values.type) else _as_lists(values)
    items, images = pc.list_flatten(lists), pc.list_parent_indices(lists)
    filled = pc.and_(pc.is_valid(items), pc.not_equal(items, "") if pa.types.is_string(items.type) else True)
    items, images = items.filter(filled), images.filter(filled).to_numpy()
    known = lists.is_valid().to_numpy(zero_copy_only=False).copy()
    if pa.types.is_string(items.type):
        labels = names or train or _distinct(items)
        numbers = pc.index_in(items, value_set=pa.array(labels, pa.string()))
        known[images[numbers.is_null().to_numpy(zero_copy_only=False)]] = False
        found = numbers.is_valid().to_numpy(zero_copy_only=False)
        places, images = numbers.drop_null().to_numpy().astype(np.int64), images[found]
    else:
        places = items.to_numpy().astype(np.int64)
        lowest, highest = (int(places.min()), int(places.max())) if len(places) else (0, -1)
        if lowest < 0:
            raise UserError(f"{where} has label {lowest}; write label numbers, 0 … labels-1")
        labels = names or train or tuple(str(number) for number in range(min(highest, MAX_LABELS) + 1))
        _require_names(highest, labels, where)
        if _differ(names, train):
            places, labels = _numbers_in(train, names)[places], train
            known[images[places < 0]] = False
            places, images = places[places >= 0], images[places >= 0]
    if len(labels) > MAX_LABELS:
        raise UserError(
            f"{where} has more than {MAX_LABELS:,} labels; use --task classification, or leave out rare ones"
        )
    hot = np.zeros((len(lists), len(labels)), dtype=bool)
    hot[images, places] = True
    hot[~known] = False
    return Targets(kind="labels", values=hot, known=known, names=labels)


def read_numbers(
    values: pa.ChunkedArray,
    *,
    where: str,
    names: tuple[str, ...] = (),
    train: tuple[str, ...] = (),  # noqa: ARG001  # numbers have no names
) -> Targets:
    """One number for each image.

    Args:
        values: numbers, or texts that are numbers; null and NaN are no number.
        where: as for `read_classes`.
        names: of classes, which must be numbers themselves: 15, 30, …

    Raises:
        UserError: for lists, names, and infinite numbers.
    """
    if pa.types.is_list(values.type):
        raise UserError(
            f"{where} gives several labels to an image (such as {_example(values)}), not a number; use --task "
            "multilabel"
        )
    try:
        if names and pa.types.is_integer(values.type):
            _require_names(pc.max(values).as_py() or 0, names, where)
            named = pa.array(names, pa.string()).cast(pa.float64())
            values = named.take(pc.if_else(pc.less(values, 0), None, values).combine_chunks())
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid as error:
        found = ", ".join((names or _distinct(values))[:3])
        raise UserError(f"{where} names classes ({found}, …), not numbers; use --task classification") from error
    finite = numbers.fill_null(np.nan).to_numpy().astype(np.float32)
    if np.isinf(finite).any():
        raise UserError(f"{where} has a number that is infinite; leave the label of that image empty")
    return Targets(kind="number", values=finite, known=~np.isnan(finite))


def _as_lists(values: pa.ChunkedArray) -> pa.Array:
    """Single labels as lists of one."""
    single = values.combine_chunks()
    is_text = pa.types.is_string(single.type)
    absent = pc.equal(single, "") if is_text else pc.equal(single, UNKNOWN_CLASS)
    single = pc.if_else(absent, pa.scalar(None, single.type), single)
    none = pc.fill_null(pc.equal(single, NONE_OF_THEM), False).to_pylist() if is_text else [False] * len(single)
    lists = [
        None if value is None else [] if no else [value] for value, no in zip(single.to_pylist(), none, strict=True)
    ]
    return pa.array(lists, pa.list_(single.type))


def _differ(names: tuple[str, ...], train: tuple[str, ...]) -> bool:
    """Whether both splits name their classes, and not alike. A training split without names has numbers for names."""
    unnamed = tuple(str(number) for number in range(len(train)))
    return bool(names) and train not in ((), unnamed, names)


def _numbers_in(train: tuple[str, ...], names: tuple[str, ...]) -> NDArray[np.int64]:
    """For each of `names` its number among `train`, -1 where it is none of them; and a last -1, for images without."""
    number = {name: place for place, name in enumerate(train)}
    return np.array([*(number.get(name, UNKNOWN_CLASS) for name in names), UNKNOWN_CLASS], dtype=np.int64)


def _require_names(highest: int, names: tuple[str, ...], where: str) -> None:
    if highest >= len(names):
        raise UserError(
            f"{where} has label {highest} but names only {len(names)} classes; repair its labels or its metadata"
        )


def _distinct(texts: pa.ChunkedArray | pa.Array) -> tuple[str, ...]:
    return tuple(sorted(text for text in pc.unique(texts).to_pylist() if text))


def _example(values: pa.ChunkedArray) -> str:
    """One value for a message, of the ones that show what kind the values are."""
    shown = [value for value in values.slice(0, 1000).to_pylist() if value is not None]
    if shown and isinstance(shown[0], list):
        return ";".join(map(str, max(shown, key=len)[:3])) or NONE_OF_THEM
    return next((f"{value:g}" for value in shown if math.isfinite(value) and value != int(value)), "none")
