"""Images that cannot be read are not counted, in any protocol: results say how many, and the run lists each once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.knn import run_knn
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import FinetuneRecipe, LinearRecipe, find_recipe
from tests.evaluation.toy_data import write_images

SMALL: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "workers": 0, "epochs": 2, "batch_size": 40}
BROKEN = {"train": (3,), "test": (0, 1, 17)}


def linear(weights: Path, data: Path, **changes: Any) -> LinearRecipe:
    found = find_recipe("fashion-mnist", "linear")
    assert isinstance(found, LinearRecipe)
    return replace(found, **{**SMALL, "weights": str(weights), "data": str(data), **changes})


def finetune(weights: Path, data: Path, **changes: Any) -> FinetuneRecipe:
    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    return replace(found, **{**SMALL, "weights": str(weights), "data": str(data), **changes})


PROTOCOLS: dict[str, Callable[[Path, Path, Path], Any]] = {
    "knn": lambda weights, data, out: run_knn(weights, str(data)),
    "cached": lambda weights, data, out: run_linear(linear(weights, data, cached=True), out),
    "linear": lambda weights, data, out: run_linear(linear(weights, data), out),
    "finetune": lambda weights, data, out: run_finetune(finetune(weights, data), out),
}


def with_broken(source: Path, folder: Path, broken: dict[str, tuple[int, ...]]) -> Path:
    """A copy of both splits in which some images are no images."""
    folder.mkdir()
    for split in ("train", "test"):
        table = pq.read_table(source / f"{split}.parquet")
        rows = table["image"].to_pylist()
        for place in broken[split]:
            rows[place]["bytes"] = b"no image"
        pq.write_table(pa.table({"image": rows, "label": table["label"]}), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def damaged(small_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_broken(small_fashion, tmp_path_factory.mktemp("data") / "damaged", BROKEN)


def listed(run: Path) -> list[tuple[str, int]]:
    lines = (run / "bad_images.jsonl").read_text().splitlines()
    return sorted((record["split"], record["image"]) for record in map(json.loads, lines))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_figures_are_over_the_images_that_could_be_read_and_results_say_how_many(
    tiny_run: Path, damaged: Path, tmp_path: Path, said: list[str], protocol: str
) -> None:
    result = PROTOCOLS[protocol](tiny_run, damaged, tmp_path / "run")
    assert (result["train_images"], result["test_images"]) == (119, 37)
    assert result["unreadable"] == {"train": 1, "test": 3}
    assert [one["split"] for one in result["unreadable_images"]] == ["train", "test", "test", "test"]
    assert all(one["reason"] and one["name"].count("parquet:") for one in result["unreadable_images"])
    assert sum(one["images"] for one in result["per_class"]) == 37
    assert sum(map(sum, result["confusion"]["matrix"])) == 37
    right = sum(one["right"] for one in result["per_class"])
    assert result["top1"] == round(100 * right / 37, 4)
    told = [message for message in said if "3 of 40 test images could not be read and are not counted" in message]
    assert len(told) == 1, "once, however often it is evaluated"
    if protocol != "knn":
        assert listed(tmp_path / "run") == [("test", 0), ("test", 1), ("test", 17), ("train", 3)]
        assert json.loads((tmp_path / "run" / "results.json").read_text()) == result


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_the_other_tasks_count_alike(tiny_run: Path, tmp_path: Path, task: str) -> None:
    data = write_images(
        tmp_path / "data", "labels" if task == "multilabel" else "number", train=30, test=20, broken=(4,)
    )
    for out, cached in (("cached", True), ("trained", False)):
        result = run_linear(
            linear(tiny_run, data, task=task, cached=cached, batch_size=10, max_bad=0.1), tmp_path / out
        )
        assert (result["train_images"], result["test_images"]) == (29, 19)
        assert result["unreadable"] == {"train": 1, "test": 1}
        assert listed(tmp_path / out) == [("test", 4), ("train", 4)]


def test_an_image_that_votes_and_is_measured_counts_as_both(tiny_run: Path, damaged: Path) -> None:
    result = run_knn(tiny_run, str(damaged / "test.parquet"))
    assert (result["test_images"], result["unreadable"]) == (37, {"train": 3, "test": 3})


def test_unreadable_test_images_are_not_taken_for_training_images_when_a_run_goes_on(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    half = with_broken(small_fashion, tmp_path / "half", {"train": (), "test": tuple(range(25))})
    first = run_finetune(finetune(tiny_run, half, max_bad=0.0), tmp_path / "run")
    assert first["unreadable"] == {"train": 0, "test": 25}
    (tmp_path / "run" / "results.json").unlink()
    again = run_finetune(finetune(tiny_run, half, max_bad=0.0), tmp_path / "run")
    assert again == first, "figures and details, though no step was left to make"
    assert listed(tmp_path / "run") == [("test", place) for place in range(25)]
    logged = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "top1" in line]
    assert len(logged) == 2, "each evaluation once"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_test_split_without_a_readable_image_is_an_error_before_any_training(
    tiny_run: Path, small_fashion: Path, tmp_path: Path, protocol: str
) -> None:
    nothing = with_broken(small_fashion, tmp_path / "nothing", {"train": (), "test": tuple(range(40))})
    which = "test images" if protocol in ("linear", "finetune") else "images"  # which train before they measure
    with pytest.raises(ValueError, match=rf"none of the 40 {which} can be decoded, e\.g\. test.parquet:0 \("):
        PROTOCOLS[protocol](tiny_run, nothing, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
