"""Neighbours are the most similar features, however the work is divided."""

import importlib

import numpy as np
import pytest

from openmae.evaluation.views import neighbours

module = importlib.import_module("openmae.evaluation.views.neighbours")


def normal(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_neighbours_are_those_of_the_whole_matrix(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEATURES_AT_ONCE", at_once)
    monkeypatch.setattr(module, "QUERIES_AT_ONCE", 3)
    features, queries = normal(0, 40), normal(1, 11)
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    expected = np.argsort(-(queries @ features.T) / lengths, axis=1)[:, :5]
    assert np.array_equal(neighbours(features, queries, 5), expected)


def test_the_length_of_a_feature_does_not_matter_and_the_first_of_equals_comes_first() -> None:
    features = np.array([[0, 1], [2, 0], [1, 0], [9, 0]], dtype=np.float32)
    assert neighbours(features, np.array([[5, 0.1]], dtype=np.float32), 4).tolist() == [[1, 2, 3, 0]]


def test_an_image_finds_itself_first() -> None:
    features = normal(0, 30)
    assert neighbours(features, features)[:, 0].tolist() == list(range(30))


def test_fewer_features_than_neighbours_are_all_found() -> None:
    assert sorted(neighbours(normal(0, 3), normal(1, 1), 10)[0]) == [0, 1, 2]
    assert neighbours(normal(0, 3), normal(1, 0)).shape == (0, 3)


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="6 values cannot be compared with queries of 5"):
        neighbours(normal(0, 3), normal(1, 2)[:, :5])
    with pytest.raises(ValueError, match="no images to find neighbours among"):
        neighbours(normal(0, 0), normal(1, 2))
