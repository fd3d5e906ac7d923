"""Which measurements belong to a run, and the table that they make."""

import json
from pathlib import Path
from typing import Any

import pytest

from openmae.reporting.report.measured import (
    Measured,
    measurements_at,
    measurements_beside,
    measurements_in,
    measures,
    most_telling,
    table,
)

KNN: dict[str, Any] = {"protocol": "knn", "encoder": "pretrained", "label_fraction": 1.0, "top1": 80.0, "weights": "w"}


def measured(**changes: Any) -> Measured:
    (one,) = measurements_in({**KNN, **changes})
    return one


@pytest.mark.parametrize(
    "broken",
    [
        "text",
        None,
        {"protocol": "pretrain"},
        {**KNN, "encoder": "somebody's"},
        {**KNN, "top1": "80"},
        {**KNN, "top1": float("nan")},
        {**KNN, "label_fraction": None},
    ],
)
def test_what_is_no_measurement_is_left_out(broken: Any) -> None:
    assert measurements_in([broken, KNN]) == measurements_in(KNN)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "[" * 100_000])
def test_a_file_that_holds_no_measurement_gives_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert measurements_at(tmp_path / "a.json") == []


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("runs/mine", True),
        ("runs/mine/encoder.safetensors", True),
        ("runs/mine/checkpoints/step-00000007/model.safetensors", True),
        ("/elsewhere/runs/mine/encoder.safetensors", True),  # copied together with its neighbours
        ("runs/mine-2/encoder.safetensors", False),
        ("other/mine", False),
        ("", False),
    ],
)
def test_a_measurement_belongs_to_the_run_whose_weights_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, expected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    assert measures(measured(weights=weights), Path("runs/mine")) is expected


def test_folders_and_files_beside_a_run_are_found_and_those_of_other_runs_are_not(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    for name, weights in (("a", run), ("b", tmp_path / "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({**KNN, "weights": str(weights)}))
        (tmp_path / f"{name}.json").write_text(json.dumps([{**KNN, "weights": str(weights), "top1": 70.0}]))
    assert [one.value for one in measurements_beside(run)] == [80.0, 70.0]


def test_the_table_has_a_line_for_each_protocol_and_share_with_the_twin_and_the_gain() -> None:
    rows = table(
        [
            [
                measured(protocol="finetune", label_fraction=0.01, top1=60.0),
                measured(),
                measured(encoder="untrained", top1=65.0),
                measured(encoder="pixels", top1=79.0),
            ]
        ]
    )
    assert [(row.protocol, row.labels, row.pretrained, row.untrained, row.pixels, row.gain) for row in rows] == [
        ("kNN", "100 %", (80.0,), 65.0, 79.0, 15.0),
        ("fine-tuning", "1 %", (60.0,), None, None, None),
    ]


def test_several_runs_stand_side_by_side() -> None:
    (row,) = table([[measured()], [measured(top1=82.0)], []])
    assert row.pretrained == (80.0, 82.0, None)


def test_classes_are_shown_of_the_measurement_with_most_labels_and_then_of_the_strongest_protocol() -> None:
    classes = [{"name": "a"}]
    knn, linear = measured(per_class=classes), measured(protocol="linear", per_class=classes)
    few = measured(protocol="finetune", label_fraction=0.1, per_class=classes)
    twin = measured(protocol="finetune", encoder="untrained", per_class=classes)
    assert most_telling([knn, linear, few, twin, measured(protocol="finetune")]) is linear
    assert most_telling([measured()]) is None
