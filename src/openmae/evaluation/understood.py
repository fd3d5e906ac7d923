"""What a measurement takes a data set for: its splits and classes, and the images that it leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmae.data.sources import LeftOut
from openmae.data.targets import Kind, Targets

NAMED = 3  # images, or classes, that a sentence names
NOUNS: dict[Kind, tuple[str, str]] = {"class": ("class", "classes"), "labels": ("label", "labels")}


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images to train on, or to measure on.

    Args:
        split: the name of their split.
        targets: of these images, all of which are known.
        labelled: how many images of the split have a label; more than these when only a share of them is used.
        unlabelled: the names of the first few images of the split that have none.
        without_label: how many have none.
    """

    split: str
    targets: Targets
    labelled: int
    unlabelled: tuple[str, ...] = ()
    without_label: int = 0

    def occurring(self) -> list[str]:
        """The classes or labels that an image has, in the order of their numbers."""
        return occurring(self.targets)

    def range(self) -> dict[str, Any]:
        """Count, first and last of the classes or labels that occur; least and greatest of numbers."""
        if self.targets.kind == "number":
            numbers = self.targets.values
            return {"numbers": {"min": float(numbers.min()), "max": float(numbers.max())}}
        names = self.occurring()
        ends = {"first": names[0], "last": names[-1]} if names else {}
        return {NOUNS[self.targets.kind][1]: {"count": len(names), **ends}}

    def record(self) -> dict[str, Any]:
        """The facts as plain values."""
        return {
            "split": self.split,
            "images": len(self.targets),
            "labelled": self.labelled,
            "unlabelled": self.without_label,
            "unlabelled_images": list(self.unlabelled),
            **self.range(),
        }

    def describe(self) -> str:
        """The targets in a few words: "of 3 classes c0 … c2"."""
        if self.targets.kind == "number":
            numbers = self.targets.values
            return f"with numbers {numbers.min():.4g} … {numbers.max():.4g}"
        names = self.occurring()
        one, several = NOUNS[self.targets.kind]
        return f"of {len(names):,} {one if len(names) == 1 else several} {_ends(names)}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Understood:
    """The splits, classes and left out images of one measurement.

    Args:
        train: what is trained on, or what neighbours are found among.
        measured: what is measured on; None when each training image is measured by the others.
        held_out: whether the measured images are a part of the training split, kept from training.
        left_out: all other images of the data set.
    """

    train: Part
    measured: Part | None
    held_out: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def not_measured(self) -> list[str]:
        """Classes or labels that are trained on, but that no measured image has."""
        if self.measured is None or self.train.targets.kind == "number":
            return []
        measured = set(self.measured.occurring())
        return [name for name in self.train.occurring() if name not in measured]

    def sentence(self) -> str:
        """One line for people: "train: 48 images of 3 classes c0 … c2; measured on val: 18"."""
        parts = [self.train] if self.measured is None or self.held_out else [self.train, self.measured]
        return "; ".join(filter(None, (self._trained(), self._measured(), _left_out(parts, self.left_out))))

    def record(self) -> dict[str, Any]:
        """The same facts as plain values, for results.json."""
        left_out = [{"what": what, "images": images, "why": why} for what, images, why in self.left_out]
        return {
            "train": self.train.record(),
            "measured": None if self.measured is None else self.measured.record(),
            "held_out": self.held_out,
            "leave_one_out": self.measured is None,
            "not_measured": self.not_measured(),
            "left_out": left_out,
        }

    def _trained(self) -> str:
        used, held_out = len(self.train.targets), len(self.measured.targets) if self.measured and self.held_out else 0
        share = f" of {self.train.labelled:,} labelled" if used + held_out < self.train.labelled else ""
        return f"{self.train.split}: {used:,}{share} images {self.train.describe()}"

    def _measured(self) -> str:
        if self.measured is None:
            lonely = self._classes_of_one_image()
            note = f" ({lonely:,} of one image each cannot be found among the others)" if lonely else ""
            return f"each image is measured by the others{note}"
        images, split = len(self.measured.targets), self.measured.split
        missing = self.not_measured()
        noun = NOUNS[self.train.targets.kind][len(missing) != 1] if missing else ""
        without = f" (none of the {noun} {_listed(missing)})" if missing else ""
        where = f"{images:,} images held out of {split}" if self.held_out else f"{split}: {images:,}"
        return f"measured on {where}{without}"

    def _classes_of_one_image(self) -> int:
        targets = self.train.targets
        return int((np.bincount(targets.values) == 1).sum()) if targets.kind == "class" else 0


def occurring(targets: Targets) -> list[str]:
    """The names of the classes or labels that a known target has, in the order of their numbers."""
    if targets.kind == "labels":
        return [targets.names[place] for place in np.flatnonzero(targets.values[targets.known].any(axis=0))]
    return [targets.names[place] for place in np.unique(targets.values[targets.known])]


def _left_out(parts: Sequence[Part], others: Sequence[LeftOut]) -> str:
    said = [what if images is None else f"{what} ({images:,})" for what, images, _ in others]
    for part in parts:
        if part.without_label:
            images = "image" if part.without_label + part.labelled == 1 else "images"
            more = ", …" if part.without_label > len(part.unlabelled) else ""
            said.append(
                f"{part.without_label:,} of {part.without_label + part.labelled:,} {images} of {part.split} without a "
                f"label ({', '.join(part.unlabelled)}{more})"
            )
    return f"left out: {', '.join(said)}" if said else ""


def _ends(names: Sequence[str]) -> str:
    return f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
