"""The contract of tasks, and their figures against plain computations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from openmae.data.targets import Targets
from openmae.errors import UserError
from openmae.evaluation.tasks import TASKS, task_for, task_from_notes
from openmae.evaluation.tasks.classification import Classification
from openmae.evaluation.tasks.multilabel import Multilabel
from openmae.evaluation.tasks.regression import Regression
from openmae.evaluation.tasks.task import Task

IMAGES = 60


def targets_of(name: str) -> Targets:
    rng = np.random.default_rng(0)
    known = np.ones(IMAGES, dtype=bool)
    if name == "classification":
        return Targets(kind="class", values=rng.integers(0, 6, IMAGES), known=known, names=tuple("abcdef"))
    if name == "multilabel":
        return Targets(kind="labels", values=rng.random((IMAGES, 4)) < 0.3, known=known, names=tuple("abcd"))
    return Targets(kind="number", values=rng.normal(50, 7, IMAGES).astype(np.float32), known=known)


def right_outputs(task: Task, targets: Targets) -> torch.Tensor:
    """Outputs that could not be better."""
    if isinstance(task, Regression):
        return (torch.from_numpy(targets.values)[:, None] - task.mean) / task.std
    truth = torch.from_numpy(targets.values)
    return torch.eye(6)[truth] if isinstance(task, Classification) else 8.0 * truth - 4


@pytest.fixture(params=TASKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def targets(name: str) -> Targets:
    return targets_of(name)


@pytest.fixture
def task(name: Any, targets: Targets) -> Task:
    return task_for(name, targets)


def test_right_outputs_have_a_small_loss_and_the_best_figures(task: Task, targets: Targets) -> None:
    right = right_outputs(task, targets)
    truth = torch.from_numpy(targets.values)
    assert right.shape == (IMAGES, task.outputs)
    assert float(task.loss(10 * right if task.name == "classification" else right, truth)) < 0.02
    best = next(iter(task.figures(task.rows(right, truth)).values()))
    assert best == pytest.approx(1 if task.name == "regression" else 100, abs=1e-4)
    wrong = torch.zeros_like(right)
    assert next(iter(task.figures(task.rows(wrong, truth)).values())) < best / 2


def test_figures_do_not_depend_on_how_images_are_batched(task: Task, targets: Targets) -> None:
    outputs = right_outputs(task, targets) + torch.randn(IMAGES, task.outputs)
    truth = torch.from_numpy(targets.values)
    parts = [slice(0, 0), slice(0, 7), slice(7, 50), slice(50, 50), slice(50, IMAGES)]
    rows = torch.cat([task.rows(outputs[part], truth[part]) for part in parts])
    assert torch.equal(rows, task.rows(outputs, truth))
    assert task.figures(rows) == task.figures(task.rows(outputs, truth))


def test_a_fitted_head_gives_the_outputs_that_a_trained_one_would(task: Task, targets: Targets) -> None:
    features = np.random.default_rng(1).normal(size=(IMAGES, 12)).astype(np.float32)
    right = right_outputs(task, targets).numpy()
    features[:, : task.outputs] += 5 * (right - right.mean(axis=0)) / right.std(axis=0)
    outputs = torch.from_numpy(task.fit(features, targets.values, features, seed=0).outputs)
    assert (outputs.shape, outputs.dtype) == ((IMAGES, task.outputs), torch.float32)
    figures = task.figures(task.rows(outputs, torch.from_numpy(targets.values)))
    assert next(iter(figures.values())) > (0.9 if task.name == "regression" else 95)


def test_the_loss_has_a_gradient_in_every_precision(task: Task, targets: Targets) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        outputs = torch.randn(IMAGES, task.outputs, dtype=dtype, requires_grad=True)
        loss = task.loss(outputs, torch.from_numpy(targets.values))
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert (loss.dtype, gradient.dtype) == (dtype, dtype)
        assert gradient.isfinite().all()
        assert gradient.any()


def test_notes_name_the_task(task: Task) -> None:
    assert task.notes()["task"] == task.name


def test_nothing_to_learn_is_refused() -> None:
    for name, wrong, message in (
        ("classification", {"names": ("a",)}, "have no labels to measure with"),
        ("multilabel", {"values": np.zeros((IMAGES, 4), dtype=bool)}, "no training image has any label"),
        ("regression", {"values": np.full(IMAGES, 3.0, dtype=np.float32)}, "no two different numbers to learn"),
    ):
        with pytest.raises(ValueError, match=message):
            TASKS[name].from_targets(replace(targets_of(name), **wrong))  # type: ignore[index]


# Multi-label


def figures_of(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    task = Multilabel(labels=tuple(map(str, range(truth.shape[1]))))
    return task.figures(task.rows(torch.from_numpy(scores), torch.from_numpy(truth)))


@given(seed=st.integers(0, 10_000), images=st.integers(2, 40))
def test_mean_average_precision_is_that_of_scikit_learn_over_the_labels_that_occur(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.normal(size=(images, 5)).astype(np.float32), rng.random((images, 5)) < 0.2
    truth[0, 0], truth[:, 4] = True, False
    occurring = truth.any(axis=0)
    expected = average_precision_score(truth[:, occurring], scores[:, occurring], average="macro")
    assert figures_of(scores, truth)["mean_average_precision"] == pytest.approx(100 * expected, abs=1e-3)


def test_constant_scores_have_the_precision_of_chance() -> None:
    truth = np.random.default_rng(0).random((500, 3)) < 0.3
    figures = figures_of(np.zeros((500, 3), dtype=np.float32), truth)
    assert figures["mean_average_precision"] == pytest.approx(figures["chance"], abs=1e-3)


def test_scores_are_logits_even_where_they_look_like_probabilities() -> None:
    truth = np.array([[True], [True], [False], [False]])
    scores = np.array([[0.2], [0.9], [0.8], [0.1]], dtype=np.float32)
    assert figures_of(scores, truth) == figures_of(1000 * scores - 500, truth), "large ones are not all alike either"


def test_a_test_split_without_any_label_cannot_be_measured_on() -> None:
    with pytest.raises(ValueError, match="no test image has any of the labels"):
        figures_of(np.zeros((3, 2), dtype=np.float32), np.zeros((3, 2), dtype=bool))


# Regression


@given(seed=st.integers(0, 10_000), images=st.integers(3, 40))
def test_figures_of_numbers_are_in_their_own_units(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.normal(200, 30, images), rng.normal(200, 30, images)
    task = Regression(mean=190.0, std=12.0)
    outputs = torch.from_numpy((predicted[:, None] - 190) / 12)
    figures = task.figures(task.rows(outputs, torch.from_numpy(truth)))
    r2 = 1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert figures["r2"] == pytest.approx(r2, abs=1e-4, rel=1e-5)
    assert figures["mean_absolute_error"] == pytest.approx(np.abs(truth - predicted).mean(), rel=1e-4)
    assert figures["error_of_the_mean"] == pytest.approx(np.abs(truth - 190).mean(), rel=1e-4)


def test_large_errors_count_linearly() -> None:
    task = Regression(mean=10.0, std=2.0)
    near, far, further = (float(task.loss(torch.zeros(1, 1), torch.tensor([number]))) for number in (11.0, 30.0, 50.0))
    assert near == pytest.approx(0.5**2 / 2)
    assert further - far == pytest.approx(20 / 2)


def test_one_test_number_has_no_r2() -> None:
    task = Regression(mean=0.0, std=1.0)
    for truth in (torch.tensor([1.0]), torch.tensor([2.0, 2.0])):
        with pytest.raises(ValueError, match="no two different numbers, so R² means nothing"):
            task.figures(task.rows(torch.zeros(len(truth), 1), truth))


# Classes that are not as frequent as each other


def frequencies(*images: int) -> Targets:
    labels = np.repeat(np.arange(len(images)), images)
    return Targets(kind="class", values=labels, known=np.ones(len(labels), bool), names=tuple("abcdef"[: len(images)]))


def test_balanced_weights_are_inverse_to_how_frequent_a_class_is_and_one_on_average() -> None:
    balanced = task_for("classification", frequencies(6, 3, 0, 1), "balanced")
    assert isinstance(balanced, Classification)
    assert balanced.weights == pytest.approx((10 / 18, 10 / 9, 10 / 3, 10 / 3))
    assert sum(weight * images for weight, images in zip(balanced.weights, (6, 3, 0, 1), strict=True)) / 10 == 1
    assert balanced.notes() == task_for("classification", frequencies(6, 3, 0, 1)).notes()


def test_a_balanced_loss_weighs_hard_blended_and_smoothed_targets_alike() -> None:
    task = task_for("classification", frequencies(6, 3, 1), "balanced")
    outputs, classes = torch.randn(8, 3), torch.arange(8) % 3
    sharp = torch.nn.functional.one_hot(classes, 3).float()
    assert torch.allclose(task.loss(outputs, classes), task.loss(outputs, sharp))
    smooth = 0.9 * sharp + 0.1 / 3
    assert torch.allclose(task.loss(outputs, classes, label_smoothing=0.1), task.loss(outputs, smooth))
    rare, frequent = (float(task.loss(torch.zeros(1, 3), torch.tensor([label]))) for label in (2, 0))
    assert rare == pytest.approx(6 * frequent)


def test_a_balanced_loss_is_the_mean_of_those_of_its_parts() -> None:
    task = task_for("classification", frequencies(6, 3, 1), "balanced")
    outputs, classes = torch.randn(8, 3), torch.tensor([0, 0, 0, 0, 2, 2, 1, 2])
    parts = [float(task.loss(outputs[part], classes[part])) for part in (slice(0, 4), slice(4, 8))]
    assert float(task.loss(outputs, classes)) == pytest.approx(sum(parts) / 2)


def test_equal_weights_leave_the_loss_as_it_is() -> None:
    even = frequencies(4, 4, 4)
    outputs, classes = torch.randn(8, 3), torch.arange(8) % 3
    plain, balanced = task_for("classification", even), task_for("classification", even, "balanced")
    assert float(balanced.loss(outputs, classes)) == pytest.approx(float(plain.loss(outputs, classes)))


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_a_task_without_classes_has_none_to_balance(name: Any) -> None:
    with pytest.raises(ValueError, match=rf"^--class-weights balanced .* {name} has no classes; leave it out$"):
        task_for(name, targets_of(name), "balanced")


# Predictions


def test_notes_are_enough_to_make_the_task_again(task: Task) -> None:
    stored = json.loads(json.dumps(task.notes()))
    assert task_from_notes(stored, task.outputs, Path("f")) == task


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"task": "poetry"}, "no task 'poetry'"),
        ({"task": "classification", "classes": ["a"]}, "names 1 for 2 outputs"),
        ({"task": "multilabel", "labels": "ab"}, "no list of texts"),
        ({"task": "regression", "mean": 1.0, "std": 1.0}, "2 numbers for an image"),
        ({"task": ["classification"]}, "no task"),
    ],
)
def test_notes_of_a_stranger_are_refused_in_a_sentence(notes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_from_notes(notes, 2, Path("f"))


def test_an_infinite_deviation_is_no_number() -> None:
    with pytest.raises(UserError, match="inf is no number that fits"):
        task_from_notes({"task": "regression", "mean": 0.0, "std": float("inf")}, 1, Path("f"))


def test_the_best_classes_come_with_their_probabilities_and_ties_go_to_the_first() -> None:
    task = Classification(classes=tuple("abcdefg"))
    outputs = torch.tensor([[0.0, 2, 1, 2, 0, -1, -2]])
    columns = {name: column.to_pylist()[0] for name, column in task.columns(task.answers(outputs)).items()}
    assert [columns[name] for name in ("label", "label_2", "label_3", "label_4", "label_5")] == list("bdcae")
    assert columns["probability"] == columns["probability_2"] == pytest.approx(float(outputs.softmax(dim=1)[0, 1]))
    assert "label_6" not in columns


def test_labels_are_those_that_are_at_least_as_likely_as_not() -> None:
    task = Multilabel(labels=("rust", "crack", "dent"))
    columns = task.columns(task.answers(torch.tensor([[3.0, -3, 0], [-1, -1, -1]])))
    assert columns["labels"].to_pylist() == [["rust", "dent"], []]
    assert columns["probability of crack"].to_pylist()[0] == pytest.approx(1 / (1 + np.exp(3)))


def test_numbers_are_in_their_own_unit() -> None:
    task = Regression(mean=10.0, std=2.0)
    assert task.columns(task.answers(torch.tensor([[1.5]])))["number"].to_pylist() == [13.0]


def test_each_label_has_its_average_precision() -> None:
    scores, truth = np.array([[2.0, 0], [1, 0], [3, 0]], np.float32), np.array([[True, False]] * 2 + [[False, False]])
    task = Multilabel(labels=("a", "b"))
    first, second = task.details(task.rows(torch.from_numpy(scores), torch.from_numpy(truth)))["per_label"]
    assert (first["name"], first["images"]) == ("a", 2)
    assert first["average_precision"] == pytest.approx(100 * average_precision_score(truth[:, 0], scores[:, 0]))
    assert second == {"name": "b", "images": 0, "average_precision": None}
