"""Predictions: one row for each image, the same as the run's own measurement, and safe to open."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import openmae
from openmae.data.sources import open_data
from openmae.evaluation.classifier import Classifier, load_classifier
from openmae.evaluation.predicting import NOT_A_NUMBER, predict
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.linear import run_linear
from openmae.weights.reading import read_weights
from tests.evaluation.test_unreadable import BROKEN, finetune, linear, with_broken
from tests.evaluation.toy_data import write_images

KINDS = ("finetune", "mean probe", "probe", "cached")


@pytest.fixture(scope="module")
def runs(tiny_run: Path, small_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each way to make a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    places = {name: folder / name for name in KINDS}
    run_finetune(finetune(tiny_run, small_fashion, epochs=5, base_lr=1e-2), places["finetune"])
    fast: dict[str, Any] = {"optimizer": "adamw", "base_lr": 0.1, "epochs": 3}
    run_linear(linear(tiny_run, small_fashion, pool="mean", **fast), places["mean probe"])
    run_linear(linear(tiny_run, small_fashion, pool="cls", **fast), places["probe"])
    run_linear(linear(tiny_run, small_fashion, cached=True), places["cached"])
    return places


@pytest.fixture(scope="module")
def damaged(small_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_broken(small_fashion, tmp_path_factory.mktemp("data") / "damaged", BROKEN)


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_as_right_as_the_run_measured_and_those_of_the_loaded_classifier(
    runs: dict[str, Path], small_fashion: Path, tmp_path: Path, kind: str
) -> None:
    predict(runs[kind], str(small_fashion), out=tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert (table["split"], set(table["error"])) == (["train"] * 120 + ["test"] * 40, {None})
    test = open_data(str(small_fashion)).test
    assert test is not None
    right = [name == test.classes[label] for name, label in zip(table["label"][120:], test.labels, strict=True)]
    assert round(100 * sum(right) / 40, 4) == results(runs[kind])["top1"]
    assert sum(right) > 4, "more than chance"

    classifier = load_classifier(runs[kind])
    assert list(classifier.class_names) == results(runs[kind])["classes"]
    with torch.inference_mode():
        outputs = classifier(torch.stack([classifier.transform(test.read(index)) for index in range(40)]))
    assert [classifier.class_names[place] for place in outputs.argmax(dim=1)] == table["label"][120:]
    assert outputs.softmax(dim=1).amax(dim=1).tolist() == pytest.approx(table["probability"][120:], abs=1e-5)


def test_a_fitted_head_does_not_need_the_run_that_its_encoder_came_from(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "gone")
    run_linear(linear(tmp_path / "gone", small_fashion, cached=True), tmp_path / "run")
    shutil.rmtree(tmp_path / "gone")
    assert predict(tmp_path / "run", str(small_fashion))["images"] == 160


def test_an_image_that_cannot_be_read_has_a_row_that_says_why(
    runs: dict[str, Path], damaged: Path, tmp_path: Path, said: list[str]
) -> None:
    result = predict(runs["cached"], str(damaged), out=tmp_path / "new" / "p.csv")
    assert (result["images"], result["unreadable"]) == (156, 4)
    assert sum(result["predicted"].values()) == 156
    with (tmp_path / "new" / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["path"]) for row in rows if row["error"]] == [
        ("train", "train.parquet:3"),
        *(("test", f"test.parquet:{place}") for place in BROKEN["test"]),
    ]
    assert all(bool(row["label"]) != bool(row["error"]) for row in rows)
    best = ["probability", *(f"probability_{rank}" for rank in range(2, 6))]
    assert all(sorted(row, reverse=True) == row for row in ([float(one[name]) for name in best] for one in rows[4:20]))
    assert any(message.startswith("3 of 40 images of test have no prediction") for message in said)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.csv"], "nothing half-written stays"


def test_without_a_file_the_first_rows_are_the_result(runs: dict[str, Path], small_fashion: Path) -> None:
    result = openmae.predict(weights=runs["cached"], data=small_fashion)
    assert result["out"] is None
    assert len(result["first"]) == 10
    assert {"path", "split", "label", "probability", "error"} <= set(result["first"][0])
    json.dumps(result)


def test_labels_and_numbers_are_predicted_too(tiny_run: Path, tmp_path: Path) -> None:
    for kind, task in (("labels", "multilabel"), ("number", "regression")):
        data = write_images(tmp_path / kind, kind, train=60, test=30)  # type: ignore[arg-type]
        run = run_linear(linear(tiny_run, data, task=task, cached=True), tmp_path / f"run-{kind}")
        predict(tmp_path / f"run-{kind}", str(data), out=tmp_path / f"{kind}.parquet")
        table = pq.read_table(tmp_path / f"{kind}.parquet").to_pydict()
        truth = pq.read_table(data / "test.parquet")["label"].to_pylist()
        if kind == "labels":
            assert list(table) == ["path", "split", "labels", *(f"probability of {n}" for n in run["labels"]), "error"]
            agree = [set(found) == set(true) for found, true in zip(table["labels"][60:], truth, strict=True)]
            assert np.mean(agree) > 0.5, "all four labels of most images"
        else:
            error = np.abs(np.array(table["number"][60:]) - truth).mean()
            assert error == pytest.approx(run["mean_absolute_error"], rel=1e-3)


def test_an_encoder_alone_says_what_to_train(tiny_run: Path, small_fashion: Path) -> None:
    with pytest.raises(ValueError, match=r"is an encoder without a classifier; train one with `openmae finetune` or"):
        predict(tiny_run, str(small_fashion))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.txt", "neither CSV nor Parquet"),
        ("train.parquet", "is there already, and was not written by openmae"),
        ("file/p.csv", "cannot write"),
    ],
)
def test_a_place_that_cannot_take_the_table_is_refused_before_any_work(
    runs: dict[str, Path], tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "train.parquet").touch()
    with pytest.raises(ValueError, match=message):
        predict(runs["cached"], str(tmp_path), out=tmp_path / name)


def test_an_output_that_is_no_number_is_no_prediction(
    runs: dict[str, Path], small_fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "forward", lambda self, images: torch.full((len(images), 10), torch.nan))
    result = predict(runs["cached"], str(small_fashion))
    assert (result["images"], result["unreadable"]) == (0, 160)
    assert {row["error"] for row in result["first"]} == {NOT_A_NUMBER}


def test_the_transform_takes_files_pictures_and_arrays(
    runs: dict[str, Path], tmp_path: Path, small_fashion: Path
) -> None:
    classifier = openmae.load_classifier(runs["finetune"])
    assert not classifier.training
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 31)).astype(np.uint8))
    picture.save(tmp_path / "a.png")
    turned = Image.fromarray(np.asarray(picture.rotate(90, expand=True)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = classifier.transform(tmp_path / "a.png")
    assert expected.shape == (1, 28, 28)
    for same in (str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), picture, np.asarray(picture)):
        assert torch.equal(classifier.transform(same), expected)
    with Image.open(tmp_path / "turned.png") as opened:
        assert torch.equal(classifier.transform(opened), expected)
    (tmp_path / "b.png").write_bytes(b"no image")
    for wrong in (tmp_path / "b.png", tmp_path / "nowhere.png"):
        with pytest.raises(ValueError, match=r"(b|nowhere)\.png cannot be"):
            classifier.transform(wrong)


def test_the_names_of_the_classes_come_with_the_weights(runs: dict[str, Path]) -> None:
    for run in runs.values():
        weights = read_weights(run)
        assert list(weights.classes) == results(run)["classes"]
        assert weights.notes["task"] == "classification"


def test_balanced_classes_train_another_classifier(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven"
    uneven.mkdir()
    table = pq.read_table(small_fashion / "train.parquet")
    labels = np.array(table["label"])
    kept = np.concatenate([np.flatnonzero(labels == label)[: 12 if label < 5 else 3] for label in range(10)])
    pq.write_table(table.take(kept), uneven / "train.parquet")
    shutil.copy(small_fashion / "test.parquet", uneven)
    for stage in ("linear", "finetune"):
        rare, heads = [], []
        for weights in ("equal", "balanced"):
            out = tmp_path / f"{stage}-{weights}"
            if stage == "linear":
                result = run_linear(linear(tiny_run, uneven, cached=True, class_weights=weights), out)
            else:
                result = run_finetune(finetune(tiny_run, uneven, class_weights=weights), out)
            rare.append(sum(one["right"] for one in result["per_class"][5:]))
            heads.append(
                {name: tensor for name, tensor in read_weights(out).tensors.items() if name.startswith("head")}
            )
        assert rare[1] >= rare[0]
        assert any(not torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
