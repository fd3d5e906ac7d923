"""Logs of OpenMMLab and fair as our curves, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from openmae.errors import UserError
from openmae.reporting.published_logs import read_log, write_log

MM = [
    {"lr": 1e-4, "data_time": 0.3, "loss": 1.2, "time": 0.5, "epoch": 1, "iter": 100, "memory": 9000, "step": 100},
    {"lr": 2e-4, "data_time": 0.1, "loss": 0.9, "time": 0.4, "epoch": 2, "iter": 400, "memory": 9000, "step": 400},
]
MM_TUNED = [
    {"base_lr": 2e-3, "lr": 1e-4, "loss": 5.5, "time": 0.5, "epoch": 1, "iter": 100, "grad_norm": 3.0, "step": 100},
    {"accuracy/top1": 71.5, "accuracy/top5": 90.25, "data_time": 0.1, "time": 0.2, "step": 1},
]
MM_OLD = [
    {"env_info": "sys.platform: linux", "seed": 0},
    {"mode": "train", "epoch": 1, "iter": 50, "lr": 0.1, "memory": 5, "loss": 2.0},
    {"mode": "val", "epoch": 1, "iter": 40, "lr": 0.1, "accuracy_top-1": 50.5},
    {"mode": "train", "epoch": 2, "iter": 50, "lr": 0.05, "memory": 5, "loss": 1.0},
]
FAIR = [{"train_lr": 0.1, "train_loss": 0.75, "epoch": 0}, {"train_lr": 0.2, "train_loss": 0.5, "epoch": 1}]


def lines(records: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(record) + "\n" for record in records]


def test_a_log_of_openmmlab_keeps_steps_loss_and_rate_and_counts_complete_epochs() -> None:
    first, second = read_log(lines(MM), "log").records
    assert list(first.items())[:4] == [("step", 100), ("epoch", 0), ("loss", 1.2), ("lr", 1e-4)]
    assert first == {"step": 100, "epoch": 0, "loss": 1.2, "lr": 1e-4, "data_time": 0.3, "time": 0.5, "memory": 9000}
    assert (second["step"], second["epoch"]) == (400, 1)


def test_an_evaluation_of_openmmlab_belongs_to_the_training_step_before_it() -> None:
    trained, evaluated = read_log(lines(MM_TUNED), "log").records
    assert (trained["gradient_norm"], trained["base_lr"]) == (3.0, 2e-3)
    assert evaluated == {"step": 100, "top1": 71.5, "top5": 90.25, "data_time": 0.1, "time": 0.2}


def test_an_old_log_that_counts_inside_each_epoch_has_no_steps() -> None:
    curves = read_log(lines(MM_OLD), "log")
    assert not curves.has_steps
    assert curves.left_out == 1
    assert [record.get("epoch") for record in curves.records] == [0, None, 1]
    assert [record["iter"] for record in curves.records] == [50, 40, 50]
    assert curves.records[1]["top1"] == 50.5
    counted = [{**record, "iter": 50 * place} for place, record in enumerate(MM_OLD)]
    assert [record["step"] for record in read_log(lines(counted), "log").records] == [50, 50, 150]


def test_a_log_of_fair_has_epochs_and_no_steps() -> None:
    curves = read_log(lines(FAIR), "log")
    assert curves.records[0] == {"epoch": 1, "loss": 0.75, "lr": 0.1}
    assert not curves.has_steps
    tuned = {"train_loss": 1.0, "test_loss": 0.9, "test_acc1": 83.5, "test_acc5": 96.5, "epoch": 99, "n_parameters": 8}
    assert read_log(lines([tuned]), "log").records == [
        {"epoch": 100, "loss": 1.0, "test_loss": 0.9, "top1": 83.5, "top5": 96.5, "n_parameters": 8}
    ]


def test_lines_that_are_no_figures_are_counted(tmp_path: Path) -> None:
    broken = ["[1, 2]\n", "{half\n", "\n", "[" * 100_000, *lines(MM)]
    assert read_log(broken, "log").left_out == 3
    with pytest.raises(
        UserError, match=r"place has no line with a loss or an accuracy; give a log of OpenMMLab or fair"
    ):
        read_log(broken[:4], "place")


def test_a_log_file_of_ones_own_is_taken_too(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_text("".join(lines(FAIR)))
    result = write_log(str(file), tmp_path / "run" / "metrics.jsonl")
    assert (result["lines"], result["has_steps"]) == (2, False)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])["epoch"] == 2
