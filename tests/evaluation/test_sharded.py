"""Measurements on several processes: the same numbers, to the last image and the last bit."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.sources import open_data
from tests.evaluation.toy_data import write_images
from tests.faults.worlds import call, prepare
from tests.faults.zygote import Zygote

TRAIN, TEST = 777, 611  # no multiples of a batch, 4 and 3 batches of 256
BROKEN = (0, 17, 255, 256, 610)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    prepare(zygote, folder, weights=True)
    return folder / "weights"


def write_data(folder: Path, train: int, test: int, broken: tuple[int, ...]) -> Path:
    """Bundled images with some that cannot be decoded in each split."""
    folder.mkdir()
    data = open_data("fashion-mnist")
    assert data.test is not None
    for name, source, count in (("train", data.train, train), ("test", data.test, test)):
        chosen = np.random.default_rng(0).permutation(len(source))[:count]
        rows = [
            {"bytes": b"no image" if place in broken else source.read(int(index)), "path": None}
            for place, index in enumerate(chosen)
        ]
        pq.write_table(pa.table({"image": rows, "label": source.labels[chosen]}), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "images", TRAIN, TEST, BROKEN)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One batch: of four processes three have nothing to do."""
    return write_data(tmp_path_factory.mktemp("data") / "few", 37, 23, (3,))


def knn(zygote: Zygote, world_size: int, *arguments: str) -> dict[str, Any]:
    first, *others = call(zygote, world_size, "command", words=["knn", *arguments, "--json"])
    assert not any(others), "the first process speaks for all"
    result: dict[str, Any] = json.loads(first)
    return result


def test_knn_is_the_same_on_any_number_of_processes(zygote: Zygote, weights: Path, data: Path) -> None:
    results = [knn(zygote, size, "--weights", str(weights), "--data", str(data)) for size in (1, 2, 4)]
    assert results[0] == results[1] == results[2]
    assert (results[0]["train_images"], results[0]["test_images"]) == (TRAIN - len(BROKEN), TEST - len(BROKEN))
    assert 15 < results[0]["top1"] < results[0]["top5"] < 100, "figures that an image more or less would change"


def test_knn_that_leaves_one_out_is_the_same_on_any_number_of_processes(
    zygote: Zygote, weights: Path, data: Path
) -> None:
    arguments = "--weights", str(weights), "--data", str(data / "train.parquet")
    alone, four = knn(zygote, 1, *arguments), knn(zygote, 4, *arguments)
    assert alone == four
    assert alone["test_images"] == TRAIN - len(BROKEN)


def test_features_are_the_same_bit_for_bit_on_any_number_of_processes(
    zygote: Zygote, weights: Path, data: Path, tmp_path: Path
) -> None:
    tables = []
    for size in (1, 2, 4):
        out = tmp_path / f"{size}.parquet"
        arguments = ["--weights", str(weights), "--data", str(data), "--out", str(out), "--json"]
        first, *others = call(zygote, size, "command", words=["embed", *arguments])
        assert not any(others)
        counted = {name: value for name, value in json.loads(first).items() if name != "data"}
        assert counted == {"images": TRAIN + TEST - 10, "bad": 10, "out": str(out)}
        tables.append(pq.read_table(out))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    places = [int(path.rsplit(":", 1)[1]) for path in tables[0]["path"].to_pylist()[-(TEST - len(BROKEN)) :]]
    assert places == [place for place in range(TEST) if place not in BROKEN]


def test_accuracy_is_the_same_to_the_last_image_on_any_number_of_processes(
    zygote: Zygote, weights: Path, data: Path
) -> None:
    results = [call(zygote, size, "evaluate", folder=str(data), weights=str(weights)) for size in (1, 2, 4)]
    (alone,) = results[0]
    assert all(result == alone for processes in results for result in processes), "every process knows the whole"
    assert alone["images"] == TEST - len(BROKEN)
    assert 0 < alone["top1"] < alone["top5"] < 100
    assert [record[0] for record in alone["bad"]] == list(BROKEN), "nothing is missing from the report"


def test_processes_without_a_batch_wait_for_the_others(zygote: Zygote, weights: Path, few: Path) -> None:
    arguments = ["--weights", str(weights), "--data", str(few)]
    assert knn(zygote, 4, *arguments) == knn(zygote, 1, *arguments)
    alone, four = (call(zygote, size, "evaluate", folder=str(few), weights=str(weights)) for size in (1, 4))
    assert four == alone * 4
    assert alone[0]["images"] == 22


def test_cached_linear_evaluation_is_the_same_on_several_processes(
    zygote: Zygote, weights: Path, data: Path, tmp_path: Path
) -> None:
    network = ["--width", "32", "--depth", "3", "--heads", "2"]
    results = []
    for size in (1, 2):
        out = tmp_path / str(size)
        arguments = [*network, "--weights", str(weights), "--data", str(data), "--out", str(out), "--cached"]
        first, *others = call(zygote, size, "command", words=["linear", "fashion-mnist", *arguments, "--json"])
        assert not any(others)
        results.append(json.loads(first))
        assert json.loads((out / "results.json").read_text()) == results[-1]
    assert results[0] | {"out": ""} == results[1] | {"out": ""}


def test_nothing_but_broken_images_ends_every_process(zygote: Zygote, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    out = str(tmp_path / "e.parquet")
    with pytest.raises(RuntimeError, match="none of the 1 images can be decoded"):
        call(zygote, 2, "command", words=["embed", "--weights", str(weights), "--data", str(tmp_path), "--out", out])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_figures_of_every_task_are_the_same_to_the_last_bit_on_any_number_of_processes(
    zygote: Zygote, weights: Path, tmp_path: Path, task: str
) -> None:
    kind: Literal["labels", "number"] = "labels" if task == "multilabel" else "number"
    folder = str(write_images(tmp_path / kind, kind, train=97, test=301, broken=(0, 17, 255)))
    results = [call(zygote, size, "evaluate", folder=folder, weights=str(weights), task=task) for size in (1, 2, 4)]
    (alone,) = results[0]
    assert all(result == alone for processes in results for result in processes), "every process knows the whole"
    assert alone["images"] == 298
    network = ["--width", "32", "--depth", "3", "--heads", "2", "--task", task]
    cached: list[dict[str, Any]] = []
    for size in (1, 2):
        arguments = [
            *network,
            "--weights",
            str(weights),
            "--data",
            folder,
            "--out",
            str(tmp_path / str(size)),
            "--cached",
        ]
        first, *_ = call(zygote, size, "command", words=["linear", "fashion-mnist", *arguments, "--json"])
        cached.append(json.loads(first) | {"out": ""})
    assert all(result == cached[0] for result in cached)
