"""Ridge regression on features."""

import numpy as np
from numpy.typing import NDArray

from openmae.evaluation.heads.ridge import fit_numbers


def points(seed: int, count: int, noise: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Numbers that are a sum of eight features of very different scale, and noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8))
    numbers = features @ np.arange(1, 9) + noise * rng.normal(size=count)
    return (features * np.logspace(-4, 4, 8)).astype(np.float32), numbers


def error(train: int, noise: float) -> float:
    test, truth = points(1, 200, 0.0)
    predicted = fit_numbers(*points(0, train, noise), test).outputs[:, 0]
    return float(np.abs(predicted - truth).mean() / np.abs(truth).mean())


def test_a_linear_dependence_is_found_whatever_the_scale_of_the_features() -> None:
    assert error(100, 0.0) < 1e-3


def test_noise_among_few_numbers_is_not_taken_for_signal() -> None:
    noisy = points(0, 12, 100.0)
    spread = fit_numbers(*noisy, points(1, 200, 0.0)[0]).outputs.std()
    assert spread < 0.5 * noisy[1].std()


def test_two_numbers_are_enough() -> None:
    assert np.isfinite(fit_numbers(*points(0, 2, 0.0), points(1, 5, 0.0)[0]).outputs).all()
