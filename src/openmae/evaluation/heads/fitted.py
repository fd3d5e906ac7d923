"""A head that was fitted to features directly, as it is measured and as it is saved."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

NORM_EPS = 1e-6


class LinearHead(NamedTuple):
    """One linear layer on centred features: outputs [N, O] = (features [N, D] - mean [D]) @ weight.T [D, O] + bias."""

    mean: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def on_standardised(
        cls, scaler: "StandardScaler", weight_OD: NDArray[np.float64], bias_O: NDArray[np.float64]
    ) -> "LinearHead":
        """The same as a linear layer behind this scaler."""
        return cls(mean=scaler.mean_, weight=weight_OD / scaler.scale_, bias=bias_O)

    def tensors(self) -> dict[str, Tensor]:
        """The state of the head of a `LinearProbe`, whose batch normalisation subtracts the mean and does no more."""
        mean, weight, bias = (torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in self)
        return {
            "0.running_mean": mean,
            "0.running_var": torch.full_like(mean, 1 - NORM_EPS),
            "0.num_batches_tracked": torch.tensor(0),
            "1.weight": weight,
            "1.bias": bias,
        }


class Fitted(NamedTuple):
    """A fitted head, and its outputs [M, O] for the test features, computed in double precision."""

    outputs: NDArray[np.float32]
    head: LinearHead
