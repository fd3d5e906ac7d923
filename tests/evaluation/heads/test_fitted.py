"""A fitted head gives, from its file, the outputs that were measured."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from openmae.evaluation.heads.fitted import NORM_EPS, Fitted, LinearHead
from openmae.evaluation.heads.logistic import fit_classes, fit_labels
from openmae.evaluation.heads.ridge import fit_numbers

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.normal(3, 2, (count, 6)).astype(np.float32) for count in (80, 30))


def from_file(head: LinearHead, features: NDArray[np.float32]) -> torch.Tensor:
    """As a `LinearProbe` computes it."""
    outputs = len(head.bias)
    module = nn.Sequential(nn.BatchNorm1d(6, affine=False, eps=NORM_EPS), nn.Linear(6, outputs)).eval()
    module.load_state_dict(head.tensors())
    with torch.no_grad():
        computed: torch.Tensor = module(torch.from_numpy(features))
    return computed


def classes(count: int, among: int) -> Fitted:
    """`count` classes occur of those that there are: the last ones."""
    labels = among - count + np.digitize(TRAIN[:, 0], np.linspace(2, 4, count - 1))
    return fit_classes(TRAIN, labels, TEST, classes=among)


@pytest.mark.parametrize(
    ("fit", "activation"),
    [
        (lambda: classes(3, 3), lambda outputs: outputs.softmax(dim=1)),
        (lambda: classes(2, 2), lambda outputs: outputs.softmax(dim=1)),
        (lambda: classes(2, 4), lambda outputs: outputs.softmax(dim=1)),
        (lambda: fit_labels(TRAIN, TRAIN[:, :3] > np.array([3, 99, -99]), TEST), lambda outputs: outputs),
        (lambda: fit_numbers(TRAIN, TRAIN.sum(axis=1), TEST), lambda outputs: outputs),
    ],
    ids=["classes", "two classes", "classes that never occur", "labels", "numbers"],
)
def test_the_saved_head_computes_the_measured_outputs(
    fit: Callable[[], Fitted], activation: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    fitted = fit()
    assert np.allclose(activation(from_file(fitted.head, TEST)).numpy(), fitted.outputs, atol=1e-4, rtol=1e-4)


def test_balanced_classes_count_alike_however_rare() -> None:
    """One class has 72 images and one 8; they overlap, so that who counts more decides where the border lies."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [72, 8])
    train = rng.normal(labels[:, None] * 1.5, 1, (80, 6)).astype(np.float32) * np.array([1, 0, 0, 0, 0, 0], np.float32)
    test = np.linspace(-1, 3, 50)[:, None].repeat(6, axis=1).astype(np.float32) * train.any(axis=0)
    plain, balanced = (
        (fit_classes(train, labels, test, classes=2, balanced=wanted).outputs.argmax(axis=1) == 1).mean()
        for wanted in (False, True)
    )
    assert balanced > plain + 0.1, "more is taken for the rare class"
