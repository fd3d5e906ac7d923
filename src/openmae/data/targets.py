"""Targets: what a network learns to predict for each image. They go through crops and flips with the picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openmae.data.transforms import Crop, Mask, Transform

Kind = Literal["class", "labels", "number"]
"""One class an image; any number of labels an image, none included; one number an image."""

UNKNOWN_CLASS = -1


class View(NamedTuple):
    """One crop of an image: the transform, its plan, and the size of the image that it was planned for."""

    transform: Transform
    crop: Crop
    height: int
    width: int


class SeenTargets(Protocol):
    """Targets as the loader needs them: for each view of an image, the target that belongs to that view."""

    def of_views(self, image: int, views: Sequence[View]) -> list[NDArray[Any]]: ...


@dataclass(frozen=True, kw_only=True)
class Targets:
    """One target for each of N images, the same for every crop of an image.

    Args:
        kind: decides what `values` are.
        values: of kind "class" [N] int64, which index `names`; of kind "labels" [N, len(names)] bool; of kind "number"
            [N] float32.
        known: [N] whether the data set gives the image a target. Where it does not, the value is -1, False or NaN,
            and has no meaning.
        names: of the classes or labels; () for numbers.
    """

    kind: Kind
    values: NDArray[Any]
    known: NDArray[np.bool_]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def subset(self, indices: NDArray[np.int64]) -> "Targets":
        """The targets of some images, by index; an index of -1 makes an image without a target."""
        taken = (
            self.values[indices] if len(self) else np.empty((len(indices), *self.values.shape[1:]), self.values.dtype)
        )
        missing = indices < 0
        taken[missing] = {"class": UNKNOWN_CLASS, "labels": False, "number": np.nan}[self.kind]
        known = (self.known[indices] if len(self) else np.zeros(len(indices), bool)) & ~missing
        return Targets(kind=self.kind, values=taken, known=known, names=self.names)

    def numbered(self, names: tuple[str, ...]) -> "Targets":
        """The same classes or labels, in the order of `names`, which have all that occur. Numbers have no names."""
        if self.kind == "number" or self.names == names:
            return self
        place = {name: number for number, name in enumerate(names)}
        if self.kind == "class":
            # Its last -1 is for the images without a class.
            places = np.array([*(place.get(name, UNKNOWN_CLASS) for name in self.names), UNKNOWN_CLASS], dtype=np.int64)
            assert (places[self.values[self.known]] != UNKNOWN_CLASS).all(), "a class that occurs has no place"
            return replace(self, values=places[self.values], names=names)
        values = np.zeros((len(self), len(names)), dtype=bool)
        for column, name in enumerate(self.names):
            if name in place:
                values[:, place[name]] = self.values[:, column]
            else:
                assert not self.values[:, column].any(), "a label that occurs has no place"
        return replace(self, values=values, names=names)

    def of_views(self, image: int, views: Sequence[View]) -> list[NDArray[Any]]:
        """The target of the image for each view of it; labels become 0.0 and 1.0."""
        value = self.values[image]
        return [value.astype(np.float32) if self.kind == "labels" else value] * len(views)


@dataclass(frozen=True, kw_only=True)
class Masks:
    """A mask for each image: the class of every pixel. A mask is cropped, resized and flipped as its image is.

    Args:
        read: an image's index to its mask [H, W], of any integer type.
        names: of the classes.
    """

    read: Callable[[int], Mask]
    names: tuple[str, ...]

    def of_views(self, image: int, views: Sequence[View]) -> list[NDArray[Any]]:
        """The mask of the image, cut as each view is: [h, w] int64."""
        mask = self.read(image)
        return [view.transform.cut_mask(mask, view.crop, view.height, view.width).astype(np.int64) for view in views]
