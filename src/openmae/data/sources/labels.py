"""Labels as a data set gives them. A task reads them as classes, as labels, or as numbers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.sources.joining_labels import Vocabulary, in_terms_of, join
from openmae.data.sources.label_values import PlainLabels, checked, picked, to_plain
from openmae.data.sources.reading_labels import READERS
from openmae.data.targets import UNKNOWN_CLASS, Kind, Targets
from openmae.errors import UserError

UNLABELLED = UNKNOWN_CLASS


class GivenLabels:
    """The labels of N images, in the data set's own values. They are read and judged when a task asks for them.

    Args:
        values: a column of any type, null where an image has no label; or a function that reads it, with the names.
        where: the file or folder that they come from, for messages.
        names: of the classes that integers number, where the data set has names for them: -1 then means no label.
            Without names, every integer is the name of a class, -1 too.
        train: the labels of the training split. The classes of this split get the numbers that they have there, joined
            by name; those that the training split lacks come behind them.
        rows: the place in `values` of each image, -1 for an image without one; when not given, value i is of image i.
    """

    def __init__(
        self,
        values: pa.ChunkedArray | Callable[[], PlainLabels],
        *,
        where: str,
        names: tuple[str, ...] = (),
        train: "GivenLabels | None" = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._values, self.where, self._names, self._train, self._rows = values, where, names, train, rows
        self._plain: PlainLabels | None = None
        self._understood: PlainLabels | None = None
        self._read: dict[Kind, Targets] = {}
        self.refusal_said = False
        """Whether a message has said that they are left out, and why."""

    def plain(self) -> PlainLabels:
        """The values in plain types.

        Raises:
            UserError: when they are of a type that can be no label, or have no meaning.
        """
        if self._plain is None:
            if callable(self._values):
                values, names = self._values()
            else:
                values, names = to_plain(self._values, self.where), self._names
            self._plain = checked(PlainLabels(values, names), self.where)
        return self._plain

    def understood(self) -> PlainLabels:
        """The same, where numbers without names mean what they mean in the training split."""
        if self._understood is None:
            plain = self.plain()
            self._understood = plain if self._train is None else in_terms_of(self._train.plain(), plain, self.where)
        return self._understood

    def of_images(self) -> PlainLabels:
        """One label for each image, in plain types."""
        values, names = self.understood()
        return PlainLabels(values if self._rows is None else picked(values, self._rows), names)

    def at(self, images: NDArray[np.int64]) -> "GivenLabels":
        """The labels of some of the images, by index, in that order; an image may be named more than once."""
        rows = images if self._rows is None else self._rows[images]
        return GivenLabels(self._values, where=self.where, names=self._names, train=self._train, rows=rows)

    def any(self) -> bool:
        """Whether any image has a label; also True where the labels can be used for nothing."""
        try:
            values = self.of_images().values
        except UserError:
            return True
        return bool(pc.any(pc.is_valid(values)).as_py())

    def targets(self, kind: Kind) -> Targets:
        """The labels as targets of this kind.

        Raises:
            UserError: when they are of another kind; the message says which task they fit.
        """
        if kind not in self._read:
            train = None if self._train is None else Vocabulary(self._train.targets(kind).names)
            read = READERS[kind](self.understood(), where=self.where, train=train)
            self._read[kind] = read if self._rows is None else read.subset(self._rows)
        return self._read[kind]


def joined(labels: Sequence[GivenLabels], *, train: GivenLabels | None = None) -> GivenLabels:
    """The labels of several sources, one behind the other, as those of one source. Classes are joined by name.

    Every source may have labels of another form: class numbers with names, texts, or numbers without names, which are
    then names themselves: the class "3" of one source is the class "3" of all. If one source has lists, the single
    labels of the others are lists of one. Sources without labels are unlabelled images.

    The order of the classes is that of the names that the sources give, the first source's first; where none gives
    names, it is that of numbers or texts, as for one source.

    Args:
        labels: of each source, in their order; each may be linked to the training split of its own data set, and is
            then understood as numbers or names of that split.
        train: the joined labels of the training split, when these are of another one.

    Returns:
        Labels that are read and joined when a task asks for them: only then may they raise UserError, such as for
        fractions in one source and names in another.
    """
    places = list(dict.fromkeys(given.where for given in labels))
    where = places[0] if len(places) == 1 else f"{places[0]} (joined with {', '.join(places[1:3])})"
    return GivenLabels(partial(_join, tuple(labels)), where=where, train=train)


def _join(labels: tuple[GivenLabels, ...]) -> PlainLabels:
    return join([given.of_images() for given in labels], [given.where for given in labels])


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
