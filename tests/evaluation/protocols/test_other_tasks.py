"""Several labels and numbers, through every protocol that can measure them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from openmae.data.sources import open_data
from openmae.evaluation.embedding import embed
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.knn import run_knn
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import FinetuneRecipe, LinearRecipe, find_recipe
from tests.evaluation.toy_data import QUARTERS, write_images

SMALL: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "workers": 0}
STILL: dict[str, Any] = {"flip": 0.0, "crop_scale": (1.0, 1.0)}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "labels", "labels", train=200, test=80)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "number", "number", train=200, test=80)


def linear(weights: Path, data: Path, **changes: Any) -> LinearRecipe:
    found = find_recipe("fashion-mnist", "linear")
    assert isinstance(found, LinearRecipe)
    return replace(found, **SMALL, weights=str(weights), data=str(data), **changes)


def finetune(weights: Path, data: Path, **changes: Any) -> FinetuneRecipe:
    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    fast: dict[str, Any] = {"epochs": 12, "batch_size": 40, "base_lr": 1e-2, "warmup_epochs": 1, "eval_every": 100}
    return replace(found, **{**SMALL, **STILL, **fast, "weights": str(weights), "data": str(data), **changes})


def test_labels_that_can_be_seen_are_found_by_cached_features(tiny_run: Path, several: Path, tmp_path: Path) -> None:
    result = run_linear(linear(tiny_run, several, task="multilabel", cached=True), tmp_path / "run")
    assert result["mean_average_precision"] > 95
    assert 25 < result["chance"] < 55
    assert (result["task"], result["train_images"], result["test_images"]) == ("multilabel", 200, 80)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == result


def test_brightness_is_found_by_cached_features(tiny_run: Path, numbers: Path, tmp_path: Path) -> None:
    result = run_linear(linear(tiny_run, numbers, task="regression", cached=True), tmp_path / "run")
    assert result["r2"] > 0.9
    assert result["mean_absolute_error"] < 0.3 * result["error_of_the_mean"]
    assert 100 < result["error_of_the_mean"] < 250, "in per mille, as the labels are"


@pytest.mark.parametrize(("task", "headline"), [("multilabel", "mean_average_precision"), ("regression", "r2")])
def test_a_linear_head_is_trained_for_any_task(
    tiny_run: Path, several: Path, numbers: Path, tmp_path: Path, task: str, headline: str
) -> None:
    data = several if task == "multilabel" else numbers
    fast = {"epochs": 20, "batch_size": 40, "optimizer": "adamw", "base_lr": 0.1, "eval_every": 10, **STILL}
    result = run_linear(linear(tiny_run, data, task=task, **fast), tmp_path / "run")
    assert result[headline] > (80 if task == "multilabel" else 0.8)
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record[headline] for record in logged if headline in record][-1] == result[headline]


def test_finetuning_finds_labels_and_says_that_nothing_is_mixed(
    tiny_run: Path, several: Path, tmp_path: Path, said: list[str]
) -> None:
    this = finetune(tiny_run, several, task="multilabel", epochs=20, mixup=0.8, cutmix=1.0, erasing=0.0)
    result = run_finetune(this, tmp_path / "run")
    assert result["mean_average_precision"] > 90
    assert "mixup, CutMix and label smoothing blend classes, so they are off for multilabel" in said
    assert "mixup: 0.0" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert any("200 labelled images of 4 labels" in message for message in said)


def test_finetuning_finds_numbers_and_its_file_says_what_the_outputs_mean(
    tiny_run: Path, numbers: Path, tmp_path: Path
) -> None:
    result = run_finetune(finetune(tiny_run, numbers, task="regression", mixup=0, cutmix=0), tmp_path / "run")
    assert result["r2"] > 0.9
    with safe_open(tmp_path / "run" / "encoder.safetensors", framework="pt") as file:
        notes = json.loads(file.metadata()["openmae.task"])
        assert file.get_tensor("head.weight").shape == (1, 32)
    trained_on = torch.from_numpy(open_data(str(numbers)).train.targets("number").values).double()
    assert notes["task"] == "regression"
    assert notes["mean"] == pytest.approx(float(trained_on.mean()))
    assert notes["std"] == pytest.approx(float(trained_on.std(correction=0)))
    assert (
        run_linear(linear(tmp_path / "run", numbers, task="regression", cached=True, pool="mean"), tmp_path / "again")[
            "r2"
        ]
        > 0.9
    ), "the encoder can be measured as any other"


def test_labels_from_a_file_are_measured_as_those_of_the_data(
    tiny_run: Path, several: Path, tmp_path: Path, reporter: object
) -> None:
    lines = ["path,label"]
    for split in ("train", "test"):
        labels = pq.read_table(several / f"{split}.parquet", columns=["label"])["label"].to_pylist()
        lines += [f"{split}.parquet:{row},{';'.join(items) or '-'}" for row, items in enumerate(labels)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    this = linear(tiny_run, several, task="multilabel", cached=True)
    own = run_linear(this, tmp_path / "own")
    from_file = run_linear(replace(this, labels=str(tmp_path / "labels.csv")), tmp_path / "file")
    assert {**own, "out": ""} == {**from_file, "out": ""}


def test_a_share_of_the_labels_and_a_held_out_fifth_are_drawn_by_the_seed(
    tiny_run: Path, numbers: Path, tmp_path: Path
) -> None:
    only_train = linear(tiny_run, numbers / "train.parquet", task="regression", cached=True, label_fraction=0.5)
    first, again, other = (
        run_linear(replace(only_train, seed=seed), tmp_path / str(run)) for run, seed in enumerate((1, 1, 2))
    )
    assert (first["train_images"], first["test_images"]) == (80, 40)
    assert {**first, "out": ""} == {**again, "out": ""}
    assert first["r2"] != other["r2"]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda run, labels, numbers, out: run_linear(linear(run, labels), out), r"several labels .*--task multilabel"),
        (
            lambda run, labels, numbers, out: run_knn(run, str(labels)),
            r"several labels .*; use linear or finetune with",
        ),
        (
            lambda run, labels, numbers, out: run_knn(run, str(numbers)),
            r"gives numbers .*; use linear or finetune with",
        ),
        (
            lambda run, labels, numbers, out: run_linear(linear(run, labels, task="regression"), out),
            "--task multilabel",
        ),
        (lambda run, labels, numbers, out: run_finetune(finetune(run, numbers), out), r"numbers .*--task regression"),
    ],
)
def test_data_of_another_task_are_refused_with_the_one_that_fits(
    tiny_run: Path, several: Path, numbers: Path, tmp_path: Path, measure: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(tiny_run, several, numbers, tmp_path / "run")


def test_features_of_images_with_several_labels_are_written_without_them(
    tiny_run: Path, several: Path, tmp_path: Path, said: list[str]
) -> None:
    embed(tiny_run, str(several), tmp_path / "e.parquet")
    assert set(pq.read_table(tmp_path / "e.parquet")["label"].to_pylist()) == {None}
    assert any(message.startswith("the labels are left out: ") for message in said)


def test_label_names_reach_the_weights(tiny_run: Path, several: Path, tmp_path: Path) -> None:
    run_finetune(finetune(tiny_run, several, task="multilabel", epochs=1), tmp_path / "run")
    with safe_open(tmp_path / "run" / "encoder.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["openmae.task"]) == {"task": "multilabel", "labels": sorted(QUARTERS)}
