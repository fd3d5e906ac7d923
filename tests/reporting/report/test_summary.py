"""The sentences of the summary, against figures made by hand."""

from typing import Any

import pytest

from openmae.reporting.report.measured import Row
from openmae.reporting.report.summary import Summary, duration, summarise
from openmae.reporting.run_files import RunFiles

RECIPE = {
    "stage": "pretrain",
    "backbone": "vit_tiny",
    "epochs": 10,
    "data": "photos",
    "image_size": "32x32",
    "mask_ratio": 0.75,
    "normalise_target": True,
}
STEPS = [
    {"step": step, "epoch": float(step), "samples": 100 * step, "loss": 1.0 / step, "images_per_second": 50.0}
    for step in (1, 10)
]
QUALITY = {
    "step": 10,
    "epoch": 10.0,
    "quality/loss": 0.41,
    "quality/own_mean": 1.0,
    "quality/nearest": 0.83,
    "quality/smooth": 0.62,
}


def row(pretrained: float | None, untrained: float | None, **changes: Any) -> Row:
    values = {"protocol": "kNN", "labels": "10 %", "figure": "top-1, %", "pixels": None, **changes}
    return Row(pretrained=(pretrained,), untrained=untrained, **values)


def summary(*rows: Row, **changes: Any) -> Summary:
    values: dict[str, Any] = {"metrics": STEPS, "recipe": RECIPE, "alarms": [], "state": "finished", **changes}
    values["metrics"] = [*values["metrics"], *values.pop("quality", [])]
    run = RunFiles(
        path="a", name="a", stage="pretrain", results=None, environment={}, started=None, updated=None, **values
    )
    return summarise(run, images=1000, parameters=5_500_000, seconds=200.0, rows=rows)


def test_what_was_trained_on_what() -> None:
    assert summary().what[0] == (
        "vit_tiny (5.5 million parameters) was pre-trained on 1,000 images of photos at 32x32 pixels for 10 epochs: "
        "1,000 samples in 3 minutes."
    )
    assert "25 % of the patches" in summary().what[1]


@pytest.mark.parametrize("state", ["running", "stopped", "crashed"])
def test_a_run_that_is_not_finished_says_so_and_how_far_it_is(state: str) -> None:
    found = summary(metrics=STEPS[:1], state=state)
    assert "for 1.0 of 10 epochs" in found.what[0]
    assert len(found.what) == 3


def test_it_helped_when_it_is_better_than_the_twin_by_more_than_a_point() -> None:
    found = summary(row(70.0, 50.0), row(80.0, 78.0, labels="100 %"))
    assert found.verdict == "yes"
    assert found.answer == (
        "Yes. With 10 % of the labels, kNN gives 70.0 (top-1, %) for the pre-trained network and 50.0 for the same "
        "network untrained: +20.0 points. The smallest difference of 2 comparisons is +2.0 points (kNN, 100 %)."
    )


def test_it_did_not_help_when_no_comparison_is_clearly_better() -> None:
    found = summary(row(50.5, 50.0), row(40.0, 50.0))
    assert found.verdict == "no"
    assert found.answer.startswith("No. In none of 2 comparisons")


def test_it_helped_in_part_when_another_comparison_is_clearly_worse() -> None:
    found = summary(row(70.0, 50.0), row(70.0, 75.0, labels="100 %"))
    assert found.verdict == "unknown"
    assert found.answer.startswith("In part. With 10 %")


def test_a_tenth_of_r2_is_a_clear_difference() -> None:
    found = summary(row(0.512, 0.4, figure="R²"), row(70.0, 68.0))
    assert found.verdict == "yes"
    assert "gives 0.512 (R²)" in found.answer
    assert "untrained: +0.112. The smallest difference of 2 comparisons is +2.0 points" in found.answer
    assert summary(row(0.405, 0.4, figure="R²")).verdict == "no"


def test_without_the_twin_nobody_knows() -> None:
    assert summary(row(90.0, None)).verdict == "unknown"


def test_the_loss_stands_beside_that_of_the_predictors_that_know_nothing() -> None:
    found = summary(quality=[{**QUALITY, "quality/held_out": 1.0}]).evidence[-1]
    assert "held out" in found
    assert "the loss is 0.41" in found
    assert "34 % below the best of them (smooth interpolation)" in found


def test_a_loss_at_a_trivial_predictor_is_said_to_be_no_better() -> None:
    assert "no better than smooth interpolation" in summary(quality=[{**QUALITY, "quality/loss": 0.62}]).evidence[-1]


def test_the_true_mean_of_hidden_patches_is_no_rival_where_pixels_are_raw() -> None:
    raw = {**RECIPE, "normalise_target": False}
    found = summary(recipe=raw, quality=[{**QUALITY, "quality/own_mean": 0.2}]).evidence[-1]
    assert "34 % below the best of them (smooth interpolation)" in found
    assert found.endswith("would reach 0.2.")


def test_alarms_are_told_and_advice_is_no_fault() -> None:
    alarms = [{"step": 3, "kind": kind, "message": kind} for kind in ("spike", "settled")]
    assert [(one.step, one.message, one.good) for one in summary(alarms=alarms).alarms] == [
        (3, "spike", False),
        (3, "settled", True),
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42, "42 seconds"), (1320, "22 minutes"), (12240, "3.4 hours"), (2 * 86400 + 4 * 3600, "2 days 4 hours")],
)
def test_durations_are_in_the_unit_that_people_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words
