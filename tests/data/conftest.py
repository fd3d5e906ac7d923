"""Shared by the tests of all kinds of sources: a separate cache folder, and reading in loader processes."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from openmae.data.sources import Source

Image = tuple[str, bytes, int]


class Images(Dataset[Image]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image:
        return self.source.name(index), self.source.read(index), int(self.source.labels[index])


def _as_it_is(image: Any) -> Any:
    return image


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Instead of the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def read_everywhere() -> Callable[[Source], list[Image]]:
    """Reads (name, bytes, label) of a source here, in two loader processes and from a pickled copy; all must agree."""

    def read(source: Source) -> list[Image]:
        here = [Images(source)[index] for index in range(len(source))]
        loader: DataLoader[Image] = DataLoader(Images(source), batch_size=None, num_workers=2, collate_fn=_as_it_is)
        assert list(loader) == here
        copy = Images(pickle.loads(pickle.dumps(source)))
        assert [copy[index] for index in range(len(copy))] == here
        return here

    return read
