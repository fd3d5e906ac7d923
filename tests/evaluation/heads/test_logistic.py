"""Logistic regression on features."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openmae.evaluation.heads import logistic
from openmae.evaluation.heads.fitted import Fitted
from openmae.evaluation.heads.logistic import fit_labels, fit_linear


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

    def spy(train: NDArray[np.float32], labels: NDArray[np.int64], *rest: Any, **options: Any) -> Fitted:
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


# Several labels


def several(seed: int, images: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Three labels, each the sign of a feature, one of them rare; features of very different scale."""
    points = np.random.default_rng(seed).normal(size=(images, 8))
    labels = points[:, :3] > np.array([0, 0.5, 1.3])
    return (points * np.logspace(-4, 4, 8)).astype(np.float32), labels


def test_every_label_is_learnt_for_itself() -> None:
    (train, labels), (test, truth) = several(0, 400), several(1, 200)
    logits = fit_labels(train, labels, test).outputs
    assert ((logits > 0) == truth).mean(axis=0).min() > 0.95


def test_the_penalty_follows_how_certain_the_labels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    predict = logistic._predict_labels

    def spy(*data: Any, penalty: float) -> Fitted:
        used.append(penalty)
        return predict(*data, penalty=penalty)

    monkeypatch.setattr(logistic, "_predict_labels", spy)
    (train, labels), (test, _) = several(0, 300), several(1, 10)
    fit_labels(train, labels, test)
    assert used == [*logistic.PENALTIES, max(logistic.PENALTIES)], "labels without noise want little penalty"
    used.clear()
    fit_labels(train, np.random.default_rng(0).random(labels.shape) < 0.5, test)
    assert used[-1] == min(logistic.PENALTIES), "labels that are all noise want much"


def test_labels_that_all_or_no_training_images_have_are_certain() -> None:
    (train, labels), (test, _) = several(0, 50), several(1, 20)
    labels[:, 0], labels[:, 1] = True, False
    logits = fit_labels(train, labels, test).outputs
    assert (logits[:, 0] > 5).all()
    assert (logits[:, 1] < -5).all()
    assert len(np.unique(logits[:, 2])) == 20


def test_two_images_are_enough_for_labels() -> None:
    (train, labels), (test, _) = several(0, 2), several(1, 5)
    assert np.isfinite(fit_labels(train, labels, test).outputs).all()
