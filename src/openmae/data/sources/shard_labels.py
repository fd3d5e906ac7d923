"""Labels in tar shards: `.cls` and `.json` members. Nothing in them is an error until a task asks for the labels."""

import json
import math
from typing import Any, NamedTuple

import pyarrow as pa

from openmae.data.sources.label_values import (
    NONE_OF_THEM,
    NOT_A_NUMBER,
    SEPARATOR,
    integers_if_all_are,
    numbers_if_all_are,
)
from openmae.errors import UserError


class MemberLabel(NamedTuple):
    """The label of one sample, as the index stores it.

    `text` is a name or a number. `other` is JSON: a list of labels, or a text that says why the label is of no use.
    """

    text: str | None = None
    other: str | None = None


def read_label(text: str, extension: str, member: str) -> MemberLabel | None:
    """The label in a member that ends in `extension`; None when there is none in it."""
    if extension == "cls":
        return MemberLabel(text=text)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return unusable(f"{member} is not JSON ({error})")
    label = content.get("label") if isinstance(content, dict) else None
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return None
    if isinstance(label, list):
        items = [_text(item) for item in label]
        plain = None not in items and not any(isinstance(item, float) for item in label)
        return MemberLabel(other=json.dumps(items)) if plain else unusable(f"{member} has the label {label!r}")
    written = _text(label)
    return unusable(f"{member} has the label {label!r}") if written is None else MemberLabel(text=written)


def unusable(reason: str) -> MemberLabel:
    """The label of a sample that has one which cannot be read."""
    return MemberLabel(other=json.dumps(f"{reason[:300]}"))


def labels_of_samples(table: pa.Table, shards: list[str]) -> pa.ChunkedArray:
    """The labels of all samples, from the columns `shard`, `label` and `other` of an index.

    Raises:
        UserError: when one of them is of no use; the message names the member.
    """
    if table["other"].null_count == len(table):
        return numbers_if_all_are(table["label"])
    lists: list[list[str] | None] = []
    for shard, text, other in zip(*(table[name].to_pylist() for name in ("shard", "label", "other")), strict=True):
        found = json.loads(other) if other is not None else None
        if isinstance(found, str):
            raise UserError(
                f"{shards[shard]}: {found}; write a class, a number or a list of labels, or leave it out of the shard"
            )
        lists.append(found if found is not None else _items(text))
    return integers_if_all_are(lists)


def _items(text: str | None) -> list[str] | None:
    """A single label as a list."""
    if text is None or not text.strip() or text.strip().lower() == NOT_A_NUMBER:
        return None
    return [item.strip() for item in text.split(SEPARATOR) if item.strip() not in ("", NONE_OF_THEM)]


def _text(label: Any) -> str | None:
    """A name or a number as text, whole numbers without a point; None for anything else."""
    if isinstance(label, bool):
        return str(int(label))
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label) if isinstance(label, str | int | float) else None
