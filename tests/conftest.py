"""A tiny pre-training run that several test files measure."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.sources import open_data
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.reporter import Reporter, use
from openmae.training.pretraining import run_pretraining
from tests.faults.zygote import Zygote

TRAIN_PER_CLASS, TEST_PER_CLASS = 12, 4


class Recording(Reporter):
    """Remembers what the user was told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.told: list[str] = []

    def say(self, message: str) -> None:
        self.told.append(message)
        super().say(message)


@pytest.fixture(autouse=True)
def reporter() -> Iterator[Recording]:
    """Nothing is printed by what a test calls."""
    recording = Recording()
    with use(recording):
        yield recording


@pytest.fixture
def said(reporter: Recording) -> list[str]:
    """Every message to the user, as the test goes on."""
    return reporter.told


@pytest.fixture(scope="session")
def small_fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet and test.parquet: a few bundled images of each class."""
    folder = tmp_path_factory.mktemp("small-fashion")
    data = open_data("fashion-mnist")
    assert data.test is not None
    for name, source, count in (("train", data.train, TRAIN_PER_CLASS), ("test", data.test, TEST_PER_CLASS)):
        chosen = np.concatenate([np.flatnonzero(source.labels == label)[:count] for label in range(10)])
        rows = [{"bytes": source.read(int(index)), "path": None} for index in chosen]
        table = pa.table({"image": rows, "label": source.labels[chosen]})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(small_fashion: Path) -> PretrainRecipe:
    """A network of a few thousand parameters on `small_fashion`."""
    recipe = find_recipe("fashion-mnist", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    return replace(
        recipe,
        data=str(small_fashion),
        width=32,
        depth=2,
        heads=2,
        decoder_width=32,
        decoder_depth=1,
        decoder_heads=2,
        epochs=2,
        batch_size=40,
        workers=0,
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe: PretrainRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run folder of `tiny_recipe`."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    run_pretraining(tiny_recipe, out)
    return out


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A process that has imported everything and forks children that train and measure."""
    with Zygote() as started:
        yield started
