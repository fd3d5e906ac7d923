"""The splits of a data set that a verb takes, and the sentence and the record that say so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmae.data.sources.data_set import Data, Source
from openmae.data.sources.joined import JoinedSource
from openmae.data.sources.split_names import SPLIT_OF, is_held_out
from openmae.data.targets import Targets
from openmae.errors import UserError

EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The splits of a data set that a verb takes, in the order of the data set.

    Args:
        data: the data set.
        splits: the names of those that are taken.
    """

    data: Data
    splits: tuple[str, ...]

    @property
    def images(self) -> Source:
        """All images that are taken. Those of several splits have the name of their split before their own."""
        parts = {split: self.data.splits[split] for split in self.splits}
        return next(iter(parts.values())) if len(parts) == 1 else JoinedSource(parts)

    def sentence(self) -> str:
        """ "images: train 16, unlabeled 6; held out: val 8, test 6"."""
        counts = {split: f"{split} {len(source):,}" for split, source in self.data.splits.items()}
        rest = [split for split in self.data.splits if split not in self.splits]
        parts = {
            "images": [counts[split] for split in self.splits],
            "held out": [counts[split] for split in rest if is_held_out(split)],
            "not used": [counts[split] for split in rest if not is_held_out(split)],
            "left out": left_out(self.data),
        }
        return "; ".join(f"{name}: {', '.join(shown)}" for name, shown in parts.items() if shown)

    def record(self) -> dict[str, Any]:
        """The same, for the results."""
        return {
            "splits": {
                split: {"images": len(source), "used": split in self.splits}
                for split, source in self.data.splits.items()
            },
            "left_out": [left._asdict() for left in self.data.left_out],
        }


def for_pretraining(data: Data, chosen: Sequence[str] = ()) -> Taken:
    """The splits to pre-train on: the chosen ones, else all that are not held out for measuring.

    Where every split is for measuring, the first of them is trained on.

    Raises:
        UserError: when there is no such split.
    """
    if chosen:
        wanted = {find_split(data, name) for name in chosen}
    else:
        wanted = {split for split in data.splits if not is_held_out(split)} or {next(iter(data.splits))}
    return Taken(data=data, splits=tuple(split for split in data.splits if split in wanted))


def find_split(data: Data, name: str) -> str:
    """The split of this name: its own, or another word for train, val or test.

    Raises:
        UserError: when there is none; the message lists those that there are.
    """
    for known in (name, name.rstrip("/"), SPLIT_OF.get(name.lower(), "")):
        if known in data.splits:
            return known
    there = ", ".join(f"{split} ({len(source):,} images)" for split, source in data.splits.items())
    raise UserError(f"the data have no split '{name}'; choose among {there}")


def everything(data: Data, classes: Mapping[str, Targets]) -> str:
    """ "train: 16 images of 2 classes c0 … c1; val: 8; unlabeled: 6 without a label", for verbs that take all splits.

    Args:
        data: the data set.
        classes: of each split.
    """
    shown: list[str] = []
    named: tuple[str, ...] = ()
    for split, source in data.splits.items():
        targets = classes[split]
        text = f"{split}: {len(source):,}" + ("" if shown else " images" if len(source) != 1 else " image")
        unknown = np.flatnonzero(~targets.known)
        if len(unknown) < len(source):
            if targets.names != named:
                named = targets.names
                text += f" of {class_names(named)}"
            if len(unknown):
                text += f", {len(unknown):,} without a label ({examples(map(source.name, map(int, unknown)))})"
        else:
            text += " without a label" if named or len(data.splits) > 1 else ", without labels"
        shown.append(text)
    return "; ".join([*shown, *(f"left out: {left}" for left in [", ".join(left_out(data))] if left)])


def record_of_all(data: Data, classes: Mapping[str, Targets]) -> dict[str, Any]:
    """The same, for the results."""
    return {
        "splits": {
            split: {
                "images": len(source),
                "classes": len(classes[split].names),
                "unlabelled": int((~classes[split].known).sum()),
            }
            for split, source in data.splits.items()
        },
        "left_out": [left._asdict() for left in data.left_out],
    }


def left_out(data: Data) -> list[str]:
    """ "logo.png (1, beside the folders of the splits)" for each that is left out."""
    return [
        f"{left.what} ({left.why})" if left.images is None else f"{left.what} ({left.images:,}, {left.why})"
        for left in data.left_out
    ]


def class_names(names: Sequence[str]) -> str:
    """ "3 classes c0 … c2"."""
    if len(names) < 3:
        return f"{len(names)} class{'es' if len(names) != 1 else ''} {' and '.join(names)}"
    return f"{len(names):,} classes {names[0]} … {names[-1]}"


def examples(names: Iterable[str]) -> str:
    """The first few names; "…" stands for the rest."""
    first = [name for _, name in zip(range(EXAMPLES + 1), names, strict=False)]
    return ", ".join(first if len(first) <= EXAMPLES else [*first[:EXAMPLES], "…"])
