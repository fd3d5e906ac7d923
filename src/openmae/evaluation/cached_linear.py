"""Linear evaluation on features that were computed once: logistic regression, in seconds."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from openmae.evaluation.scores import Scores, balanced_subset, score

# Inverse strength of the L2 penalty, of which a held-out fifth of (at most so many of) the training labels picks one.
PENALTIES = (0.001, 0.01, 0.1, 1.0)
HELD_OUT = 0.2
SELECTION_LIMIT = 5000
# Newton's method converges in a few iterations but keeps a matrix of (classes * features)^2.
NEWTON_LIMIT = 6000
LBFGS_ITERATIONS = 3000


def fit_linear(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int64],
    *,
    classes: int,
    seed: int = 0,
) -> Scores:
    """Standardise the features, fit multinomial logistic regression, score it on the test features.

    The penalty is the one that does best on a balanced fifth of the training labels, of which a balanced 5,000 suffice;
    the test labels are only scored.
    """
    penalty = _choose_penalty(train, train_labels, seed=seed)
    return score(_predict(train, train_labels, test, classes=classes, penalty=penalty), test_labels)


def _choose_penalty(features: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int) -> float:
    if len(labels) > SELECTION_LIMIT:
        some = balanced_subset(labels, SELECTION_LIMIT / len(labels), seed=seed)
        features, labels = features[some], labels[some]
    held_out = balanced_subset(labels, HELD_OUT, seed=seed)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if len(np.unique(labels[rest])) < len(np.unique(labels)):
        return 0.01  # one image of a class cannot be split; a strong penalty suits so few labels
    classes = int(labels.max()) + 1
    tried = {
        penalty: score(
            _predict(features[rest], labels[rest], features[held_out], classes=classes, penalty=penalty),
            labels[held_out],
        ).top1
        for penalty in PENALTIES
    }
    return max(tried, key=lambda penalty: tried[penalty])


def _predict(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    *,
    classes: int,
    penalty: float,
) -> NDArray[np.float32]:
    """Class probabilities [N, classes]; a class that never occurs in training gets 0."""
    solver = "newton-cholesky" if classes * train.shape[1] <= NEWTON_LIMIT else "lbfgs"
    logistic = LogisticRegression(C=penalty, solver=solver, max_iter=LBFGS_ITERATIONS)
    regression = make_pipeline(StandardScaler(), logistic)
    # Features of a long-trained encoder are nearly collinear: single precision would break Newton's method.
    regression.fit(train.astype(np.float64), labels)
    outputs = np.zeros((len(test), classes), dtype=np.float32)
    outputs[:, regression.classes_] = regression.predict_proba(test.astype(np.float64))
    return outputs
