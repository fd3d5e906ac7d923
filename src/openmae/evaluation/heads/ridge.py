"""Numbers predicted from features: ridge regression, in closed form."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from openmae.evaluation.heads.fitted import Fitted, LinearHead

# Strength of the L2 penalty, of which leaving out each training image in turn picks one.
PENALTIES = np.logspace(-2, 6, 17)


def fit_numbers(train: NDArray[np.float32], numbers: NDArray[np.floating], test: NDArray[np.float32]) -> Fitted:
    """Standardise the features [N, D], fit ridge regression to the `numbers` [N]: [M, 1] for the test features."""
    regression = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    regression.fit(train.astype(np.float64), numbers.astype(np.float64))
    predicted: NDArray[np.float32] = regression.predict(test.astype(np.float64)).astype(np.float32)
    ridge = regression[1]
    head = LinearHead.on_standardised(regression[0], ridge.coef_[None], np.array([ridge.intercept_]))
    return Fitted(predicted[:, None], head)
