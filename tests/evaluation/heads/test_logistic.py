"""Logistic regression on features."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openmae.evaluation.heads import logistic
from openmae.evaluation.heads.logistic import fit_linear


def clusters(seed: int, per_class: int, spread: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three classes around fixed centres in eight dimensions of very different scale."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 8))
    labels = np.repeat(np.arange(3), per_class)
    points = centres[labels] + spread * rng.normal(size=(3 * per_class, 8))
    return (points * np.logspace(-4, 4, 8)).astype(np.float32), labels


def test_separable_classes_are_learnt_whatever_the_scale_of_the_features() -> None:
    scores = fit_linear(*clusters(0, 40, 0.1), *clusters(1, 30, 0.1), classes=3)
    assert scores.top1 == 100


def test_both_solvers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (*clusters(0, 60, 0.8), *clusters(1, 200, 0.8))
    newton = fit_linear(*data, classes=3)
    monkeypatch.setattr(logistic, "NEWTON_LIMIT", 0)
    assert fit_linear(*data, classes=3).top1 == pytest.approx(newton.top1, abs=0.5)


def test_test_labels_do_not_choose_the_penalty() -> None:
    """Scoring other test labels changes the score only, not which images are called what."""
    train, test, truth = clusters(0, 30, 1.0), clusters(1, 50, 1.0)[0], clusters(1, 50, 1.0)[1]
    right = fit_linear(*train, test, truth, classes=3).top1
    wrong = [fit_linear(*train, test, (truth + shift) % 3, classes=3).top1 for shift in (1, 2)]
    assert right + sum(wrong) == pytest.approx(100, abs=1e-3)


def test_many_labels_choose_the_penalty_on_some_and_fit_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[tuple[float, int]] = []
    predict = logistic._predict

    def spy(train: NDArray[np.float32], labels: NDArray[np.int64], *rest: Any, **options: Any) -> NDArray[np.float32]:
        assert len(set(np.bincount(labels))) == 1, "balanced"
        fitted.append((options["penalty"], len(labels)))
        return predict(train, labels, *rest, **options)

    monkeypatch.setattr(logistic, "_predict", spy)
    monkeypatch.setattr(logistic, "SELECTION_LIMIT", 60)
    fit_linear(*clusters(0, 100, 0.1), *clusters(1, 10, 0.1), classes=3)
    assert [images for _, images in fitted] == [48] * len(logistic.PENALTIES) + [300]
    assert {penalty for penalty, _ in fitted} == set(logistic.PENALTIES)


def test_one_image_per_class_is_enough() -> None:
    scores = fit_linear(*clusters(0, 1, 0.1), *clusters(1, 20, 0.1), classes=3)
    assert scores.top1 > 80


def test_a_class_without_training_images_is_never_predicted() -> None:
    points, labels = clusters(0, 30, 0.1)
    kept = labels < 2
    scores = fit_linear(points[kept], labels[kept], *clusters(1, 30, 0.1), classes=3)
    assert scores.top1 == pytest.approx(200 / 3, abs=0.1)
