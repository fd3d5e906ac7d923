"""What a data set is to all who use it: sources of images, divided into splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openmae.data.sources.labels import UNLABELLED, ClassView, Labelled
from openmae.data.sources.split_names import is_held_out
from openmae.data.targets import Kind, Targets
from openmae.errors import UserError
from openmae.reporter import say


class Source(Protocol):
    """A sized list of encoded images, and what the data set says about them.

    Sources are made to be forked or pickled into loader processes: they hold no connections that both sides would use.
    """

    def __len__(self) -> int: ...
    def read(self, index: int) -> bytes:
        """The encoded bytes of one image.

        Raises:
            OSError: when they cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """The name of this image in messages: its path, or its position in a file."""
        ...

    def targets(self, kind: Kind) -> Targets:
        """The labels of the images, read as targets of this kind.

        Raises:
            UserError: when they are of another kind; the message says which task they fit.
        """
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes of the images, [N] int64 that index `classes`, -1 where there is none: `targets("class")`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...


class LeftOut(NamedTuple):
    """Images that are not used: which ("unlabeled/", "extra.tar"), how many (None: not counted), and why."""

    what: str
    images: int | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set, divided into splits.

    Args:
        splits: by name, in this order: "train", "val" and "test", whatever the data set calls them, then all others by
            their own names ("unlabeled"). A data set that is not divided is "train".
        left_out: what lies there and belongs to no split.
    """

    splits: Mapping[str, Source]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def train(self) -> Source:
        """The split to train on; the first one where none is called so.

        Raises:
            UserError: when several that are not for measuring could be meant.
        """
        candidates = [split for split in self.splits if not is_held_out(split)]
        if "train" not in self.splits and len(candidates) > 1:
            raise UserError(
                f"none of the splits {', '.join(self.splits)} is called train; choose what to train on with --split "
                "(pretrain) or --train-split"
            )
        return self.splits["train" if "train" in self.splits else next(iter(candidates or self.splits))]

    @property
    def test(self) -> Source | None:
        """The split to measure on when nobody chooses one: test, else val, the first that has labels; None without."""
        candidates = [self.splits[split] for split in ("test", "val") if split in self.splits]
        if len(self.splits) == 1:
            return None  # it is what there is to train on
        return next(filter(has_labels, candidates), candidates[0] if candidates else None)


def has_labels(source: Source) -> bool:
    """Whether any image of a source has a label."""
    return not isinstance(source, Labelled) or source.given.any()


class Subset(ClassView):
    """Some images of another source, by index."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def targets(self, kind: Kind) -> Targets:
        return self.source.targets(kind).subset(self.indices)


def classes_if_any(source: Source) -> Targets:
    """The classes of the images. When the labels are of another kind there are none, and a message says so, once."""
    try:
        return source.targets("class")
    except UserError as error:
        if not (isinstance(source, Labelled) and source.given.refusal_said):
            say(f"the labels are left out: {error}")
        if isinstance(source, Labelled):
            source.given.refusal_said = True
        unknown = np.full(len(source), UNLABELLED, dtype=np.int64)
        return Targets(kind="class", values=unknown, known=np.zeros(len(source), dtype=bool))
