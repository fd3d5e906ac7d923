"""Several sources as one: the splits that a training uses, or the places that one data set lies in."""

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from openmae.data.sources.data_set import Source
from openmae.data.sources.labels import GivenLabels, Labelled, joined
from openmae.data.sources.names_and_sizes import sizes_of
from openmae.data.sources.packed_notes import PackedNotes
from openmae.data.sources.shards import ShardSource


class JoinedSource(Labelled):
    """The images of several sources, one source behind the other, with classes that are joined by name.

    Args:
        parts: the sources by the names that stand before the names of their images, as in "unlabeled/000.png".
        train: the labels of the training split, where these are of another one.
    """

    def __init__(self, parts: Mapping[str, Source], *, train: GivenLabels | None = None) -> None:
        self._prefixes = tuple(parts)
        self.parts = tuple(parts.values())
        self._starts = np.array([0, *itertools.accumulate(map(len, self.parts))], dtype=np.int64)
        self.given = joined([labels_of(part) for part in self.parts], train=train)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, index: int) -> bytes:
        part, inside = self._place(index)
        return self.parts[part].read(inside)

    def name(self, index: int) -> str:
        part, inside = self._place(index)
        return f"{self._prefixes[part]}/{self.parts[part].name(inside)}"

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each image, [N]; -1 where a part does not know them."""
        return np.concatenate([sizes_of(part) for part in self.parts])

    @property
    def packed(self) -> PackedNotes | None:
        """The notes of `openmae pack` when all parts were packed together."""
        notes = [part.packed if isinstance(part, ShardSource | JoinedSource) else None for part in self.parts]
        return notes[0] if all(note == notes[0] for note in notes) else None

    def _place(self, index: int) -> tuple[int, int]:
        """The part of an image, and its place there."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index} among {len(self)}")
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return part, int(index - self._starts[part])


def labels_of(source: Source) -> GivenLabels:
    """The labels of a source that a data set consists of."""
    assert isinstance(source, Labelled), "every source of a data set is"
    return source.given
