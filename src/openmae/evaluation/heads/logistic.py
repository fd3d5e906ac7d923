"""Classes and labels predicted from features: logistic regression, in seconds."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from openmae.data.randomness import Stream, random_stream
from openmae.evaluation.accuracy import Scores, outcomes, score, scores_of
from openmae.evaluation.confusion import mean_class_accuracy
from openmae.evaluation.heads.fitted import Fitted, LinearHead
from openmae.evaluation.splits import balanced_subset

# Inverse strength of the L2 penalty, of which a held-out fifth of (at most so many of) the training labels picks one.
PENALTIES = (0.001, 0.01, 0.1, 1.0)
# A strong one suits few labels.
STRONG = 0.01
HELD_OUT = 0.2
SELECTION_LIMIT = 5000
# Newton's method converges in a few iterations but keeps a matrix of (classes * features)^2.
NEWTON_LIMIT = 6000
LBFGS_ITERATIONS = 3000
# The logit of a label about which the training images leave no doubt.
CERTAIN = 10.0
# The logit of a class that no training image has.
IMPOSSIBLE = -1e9


def fit_linear(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int64],
    *,
    classes: int,
    seed: int = 0,
) -> Scores:
    """The accuracy of `fit_classes` on the test features; the test labels are only scored."""
    return score(fit_classes(train, train_labels, test, classes=classes, seed=seed).outputs, test_labels)


def fit_classes(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    *,
    classes: int,
    seed: int = 0,
    balanced: bool = False,
) -> Fitted:
    """Standardise the features [N, D], fit multinomial logistic regression: probabilities of the test features.

    The penalty is the one that does best on a balanced fifth of the training labels, of which a balanced 5,000 suffice.
    With `balanced`, images count inversely to how frequent their class is, and so do those of the held-out fifth.
    """
    penalty = _choose_penalty(train, labels, seed=seed, balanced=balanced)
    return _predict(train, labels, test, classes=classes, penalty=penalty, balanced=balanced)


def fit_labels(
    train: NDArray[np.float32], labels: NDArray[np.bool_], test: NDArray[np.float32], *, seed: int = 0
) -> Fitted:
    """Standardise the features [N, D], fit a logistic regression for each of the `labels` [N, L]: their logits.

    One penalty serves all labels: the one of the lowest log loss on a fifth of the training images, of which 5,000
    suffice.
    """
    drawn = random_stream(seed, Stream.SUBSET).permutation(len(labels))[:SELECTION_LIMIT]
    held_out, rest = np.split(drawn, [max(1, round(len(drawn) * HELD_OUT))])
    losses = {}
    for penalty in PENALTIES if len(rest) else ():
        fitted = _predict_labels(train[rest], labels[rest], train[held_out], penalty=penalty)
        logits = fitted.outputs.astype(np.float64)
        losses[penalty] = float(np.logaddexp(0, np.where(labels[held_out], -logits, logits)).mean())
    penalty = min(losses, key=lambda penalty: losses[penalty]) if losses else STRONG
    return _predict_labels(train, labels, test, penalty=penalty)


def _predict_labels(
    train: NDArray[np.float32], labels: NDArray[np.bool_], test: NDArray[np.float32], *, penalty: float
) -> Fitted:
    """Logits [M, L]; a label that all or no training images have gets the same one everywhere."""
    scaler = StandardScaler().fit(train.astype(np.float64))
    features, queries = scaler.transform(train.astype(np.float64)), scaler.transform(test.astype(np.float64))
    logits = np.empty((len(test), labels.shape[1]), dtype=np.float32)
    weight_LD, bias_L = np.zeros((labels.shape[1], train.shape[1])), np.empty(labels.shape[1])
    for place, present in enumerate(labels.T):
        if present.all() or not present.any():
            logits[:, place] = bias_L[place] = CERTAIN if present.all() else -CERTAIN
            continue
        solver = "newton-cholesky" if train.shape[1] <= NEWTON_LIMIT else "lbfgs"
        logistic = LogisticRegression(C=penalty, solver=solver, max_iter=LBFGS_ITERATIONS)
        logits[:, place] = logistic.fit(features, present).decision_function(queries)
        weight_LD[place], bias_L[place] = logistic.coef_[0], logistic.intercept_[0]
    return Fitted(logits, LinearHead.on_standardised(scaler, weight_LD, bias_L))


def _choose_penalty(features: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int, balanced: bool) -> float:
    if len(labels) > SELECTION_LIMIT:
        some = balanced_subset(labels, SELECTION_LIMIT / len(labels), seed=seed)
        features, labels = features[some], labels[some]
    held_out = balanced_subset(labels, HELD_OUT, seed=seed)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if len(np.unique(labels[rest])) < len(np.unique(labels)):
        return STRONG  # one image of a class cannot be split
    classes = int(labels.max()) + 1
    tried = {}
    for penalty in PENALTIES:
        fitted = _predict(
            features[rest], labels[rest], features[held_out], classes=classes, penalty=penalty, balanced=balanced
        )
        found = outcomes(fitted.outputs, labels[held_out])
        tried[penalty] = mean_class_accuracy(found) if balanced else scores_of(found).top1
    return max(tried, key=lambda penalty: tried[penalty])


def _predict(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    *,
    classes: int,
    penalty: float,
    balanced: bool,
) -> Fitted:
    """Class probabilities [M, classes]; a class that never occurs in training gets 0."""
    solver = "newton-cholesky" if classes * train.shape[1] <= NEWTON_LIMIT else "lbfgs"
    weights = "balanced" if balanced else None
    logistic = LogisticRegression(C=penalty, solver=solver, max_iter=LBFGS_ITERATIONS, class_weight=weights)
    regression = make_pipeline(StandardScaler(), logistic)
    # Features of a long-trained encoder are nearly collinear: single precision would break Newton's method.
    regression.fit(train.astype(np.float64), labels)
    outputs = np.zeros((len(test), classes), dtype=np.float32)
    outputs[:, regression.classes_] = regression.predict_proba(test.astype(np.float64))
    coefficients, intercepts = logistic.coef_, logistic.intercept_
    if len(logistic.classes_) == 2:  # scikit-learn gives the logit of the second against the first
        coefficients, intercepts = np.stack([0 * coefficients[0], coefficients[0]]), np.array([0, intercepts[0]])
    weight_OD, bias_O = np.zeros((classes, train.shape[1])), np.full(classes, IMPOSSIBLE)
    weight_OD[logistic.classes_], bias_O[logistic.classes_] = coefficients, intercepts
    return Fitted(outputs, LinearHead.on_standardised(regression[0], weight_OD, bias_O))
