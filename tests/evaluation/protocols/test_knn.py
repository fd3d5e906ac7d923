"""Nearest neighbours: against a plain implementation, and by the properties of the protocol."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from openmae.evaluation.protocols.knn import knn, run_knn


def features(seed: int, count: int, width: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def labels(seed: int, count: int, classes: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(classes, size=count)


def plain_votes(
    bank: NDArray[np.float32], bank_labels: NDArray[np.int64], query: NDArray[np.float32], k: int, classes: int
) -> list[float]:
    """One query, written out with loops."""
    similarities = []
    for row, label in zip(bank.astype(float), bank_labels, strict=True):
        dot = sum(a * b for a, b in zip(row, query.astype(float), strict=True))
        norm = (sum(a * a for a in row) * sum(float(b) ** 2 for b in query)) ** 0.5
        similarities.append((dot / norm, int(label)))
    votes = [0.0] * classes
    for similarity, label in sorted(similarities, reverse=True)[:k]:
        votes[label] += float(np.exp(similarity / 0.07))
    return votes


def test_votes_equal_a_plain_implementation() -> None:
    bank, bank_labels, queries = features(0, 60), labels(1, 60, 4), features(2, 50)
    expected = [int(np.argmax(plain_votes(bank, bank_labels, query, 7, 4))) for query in queries]
    scores = knn(bank, bank_labels, queries, np.array(expected), classes=4, neighbours=7)
    assert scores.top1 == 100
    wrong = (np.array(expected) + 1) % 4
    assert knn(bank, bank_labels, queries, wrong, classes=4, neighbours=7).top1 == 0


def test_leave_one_out_does_not_let_an_image_vote_for_itself() -> None:
    bank = np.eye(6, dtype=np.float32)  # every image is its own nearest neighbour and as far from all others
    bank[:, 0] += 0.1
    separate = np.arange(6)
    assert knn(bank, separate, bank, separate, classes=6, neighbours=1).top1 == 100
    assert knn(bank, separate, None, None, classes=6, neighbours=1).top1 == 0


def test_leave_one_out_is_right_beyond_the_first_chunk() -> None:
    points = np.repeat(features(3, 700), 2, axis=0)  # 1400 images, each with exactly one twin
    twins = np.repeat(np.arange(700), 2)
    assert knn(points, twins, None, None, classes=700, neighbours=1).top1 == 100


def test_length_of_features_does_not_matter() -> None:
    bank, bank_labels, queries, query_labels = features(0, 60), labels(1, 60, 3), features(2, 40), labels(4, 40, 3)
    scaled = bank * np.linspace(0.1, 10, 60, dtype=np.float32)[:, None]
    assert knn(bank, bank_labels, queries, query_labels, classes=3) == knn(
        scaled, bank_labels, queries, query_labels, classes=3
    )


def test_a_bank_smaller_than_k_votes_as_a_whole() -> None:
    bank, bank_labels = features(0, 5), np.array([0, 1, 1, 0, 1])
    queries, query_labels = features(1, 9), labels(2, 9, 2)
    assert knn(bank, bank_labels, queries, query_labels, classes=2, neighbours=20) == knn(
        bank, bank_labels, queries, query_labels, classes=2, neighbours=5
    )


def test_one_labelled_image_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="use at least 2"):
        knn(features(0, 1), np.array([0]), None, None, classes=1)


def test_run_uses_the_test_split_and_all_labels(tiny_run: Path, small_fashion: Path) -> None:
    result = run_knn(tiny_run, str(small_fashion))
    assert result["leave_one_out"] is False
    assert (result["train_images"], result["test_images"]) == (120, 40)
    assert 0 <= result["top1"] <= result["top5"] <= 100


def test_run_leaves_one_out_without_a_test_split(tiny_run: Path, small_fashion: Path) -> None:
    result = run_knn(tiny_run, str(small_fashion / "train.parquet"))
    assert result["leave_one_out"] is True
    assert result["test_images"] == 120


def test_label_fraction_shrinks_the_bank_only(tiny_run: Path, small_fashion: Path) -> None:
    result = run_knn(tiny_run, str(small_fashion), label_fraction=0.25)
    assert (result["train_images"], result["test_images"]) == (30, 40)


def test_untrained_twin_is_another_encoder(tiny_run: Path, small_fashion: Path) -> None:
    trained = run_knn(tiny_run, str(small_fashion), neighbours=3)
    fresh = run_knn(tiny_run, str(small_fashion), neighbours=3, untrained=True)
    assert (trained["encoder"], fresh["encoder"]) == ("pretrained", "untrained")
    assert (trained["top1"], trained["top5"]) != (fresh["top1"], fresh["top5"])


def test_the_splits_to_measure_and_to_vote_can_be_chosen(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    for name, file in (("train", "train"), ("val", "test"), ("extra", "test"), ("test", "train")):
        (tmp_path / f"{name}.parquet").symlink_to(small_fashion / f"{file}.parquet")
    usual = run_knn(tiny_run, str(tmp_path))
    assert (usual["train_images"], usual["test_images"]) == (120, 120)
    chosen = run_knn(tiny_run, str(tmp_path), split="validation", train_split="extra", neighbours=1)
    assert (chosen["train_images"], chosen["test_images"], chosen["top1"]) == (40, 40, 100)
