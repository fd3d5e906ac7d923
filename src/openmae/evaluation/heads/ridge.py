"""Numbers predicted from features: ridge regression, in closed form."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Strength of the L2 penalty, of which leaving out each training image in turn picks one.
PENALTIES = np.logspace(-2, 6, 17)


def predict_numbers(
    train: NDArray[np.float32], numbers: NDArray[np.floating], test: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Standardise the features [N, D], fit ridge regression to the `numbers` [N], predict for the test features."""
    regression = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    regression.fit(train.astype(np.float64), numbers.astype(np.float64))
    predicted: NDArray[np.float32] = regression.predict(test.astype(np.float64)).astype(np.float32)
    return predicted
