"""What people see of a result."""

from typing import Any

import pytest

from openmae.evaluation.results import Measurement
from openmae.reporting.results import show_measurement, show_pretraining, show_values

MEASURED: Measurement = {
    "protocol": "linear",
    "encoder": "pretrained",
    "label_fraction": 0.1,
    "seed": 3,
    "train_images": 100,
    "test_images": 20,
}


def test_a_classification_shows_its_accuracies_and_the_run_folder() -> None:
    logged: Any = {"epoch": 2.0, "loss": 0.3, "lr": 0.1, "gradient_norm": 1.0, "images_per_second": 9.0}
    result: Any = {**MEASURED, **logged, "waiting_for_data": 0.1, "top1": 91.234, "top5": 99.0, "out": "runs/a"}
    assert list(show_measurement(result)) == [
        "linear of the pretrained encoder: top-1 91.23 %, top-5 99.00 %",
        "run folder: runs/a",
    ]


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ({"mean_average_precision": 71.23}, "mean average precision 71.23 %"),
        ({"r2": 0.91234, "mean_absolute_error": 12.3456}, "R² 0.9123, mean absolute error 12.35"),
        ({"some_other_figure": 1.5}, "some other figure 1.5"),
    ],
)
def test_every_figure_of_a_measurement_is_shown(figures: dict[str, float], shown: str) -> None:
    result: Any = {**MEASURED, **figures}
    assert list(show_measurement(result)) == [f"linear of the pretrained encoder: {shown}"]


def test_a_pretraining_shows_its_loss_and_its_speed() -> None:
    assert list(show_pretraining({"loss": 0.25, "images_per_second": 1234.5, "out": "runs/a"})) == [
        "final loss 0.2500, 1234 images/s",
        "run folder: runs/a",
    ]


def test_any_result_can_be_shown() -> None:
    assert list(show_values({"images": 3, "bad": 0})) == ["images: 3", "bad: 0"]
    assert list(show_values("a.png")) == ["a.png"]
    assert list(show_values(None)) == []
