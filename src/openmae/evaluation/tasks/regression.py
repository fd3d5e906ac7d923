"""One number for each image: Huber loss, coefficient of determination and mean absolute error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openmae.data.targets import Kind, Targets
from openmae.errors import UserError
from openmae.evaluation.tasks.notes import number
from openmae.recipes.values import TaskName

if TYPE_CHECKING:
    from openmae.evaluation.heads.fitted import Fitted


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The head gives a number in units of the training numbers' standard deviation `std`, from their mean `mean`."""

    name: ClassVar[TaskName] = "regression"
    kind: ClassVar[Kind] = "number"
    mixes: ClassVar[bool] = False

    mean: float
    std: float

    @classmethod
    def from_targets(cls, targets: Targets) -> "Regression":
        numbers = targets.values.astype(np.float64)
        if len(numbers) < 2 or not (std := float(numbers.std())) > 0:
            raise UserError(
                "the training images have no two different numbers to learn; give --labels a CSV file such as "
                "path,label with a number in each line"
            )
        return cls(mean=float(numbers.mean()), std=std)

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], outputs: int) -> "Regression":
        if outputs != 1:
            raise ValueError(f"it gives {outputs} numbers for an image")
        return cls(mean=number(notes.get("mean")), std=number(notes.get("std"), positive=True))

    @property
    def outputs(self) -> int:
        return 1

    def describe(self) -> str:
        return f"numbers {self.mean:.4g} ± {self.std:.4g}"

    def loss(self, outputs_BO: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Huber loss with numbers [B], of the standardised error: quadratic below one standard deviation."""
        assert not label_smoothing, "this task does not mix"
        return F.huber_loss(outputs_BO[:, 0], ((targets.double() - self.mean) / self.std).to(outputs_BO.dtype))

    def rows(self, outputs_BO: Tensor, targets: Tensor) -> Tensor:
        """[B, 2]: predicted and true numbers."""
        return torch.stack([outputs_BO[:, 0].double() * self.std + self.mean, targets.double()], dim=1)

    def figures(self, rows: Tensor) -> dict[str, float]:
        """R² (1 is perfect), mean absolute error, and the error of always predicting the training mean."""
        from torchmetrics.functional.regression import mean_absolute_error, r2_score

        predicted, true = rows[:, 0].contiguous(), rows[:, 1].contiguous()
        if len(true) < 2 or not (true != true[0]).any():
            raise UserError(
                "the test images have no two different numbers, so R² means nothing; give a larger test split"
            )
        constant = torch.full_like(true, self.mean)
        return {
            "r2": round(float(r2_score(predicted, true)), 6),
            "mean_absolute_error": _rounded(mean_absolute_error(predicted, true)),
            "error_of_the_mean": _rounded(mean_absolute_error(constant, true)),
        }

    def details(self, rows: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Nothing: the figures say it all."""
        return {}

    def fit(
        self,
        features_ND: NDArray[np.float32],
        targets: NDArray[np.float32],
        test_MD: NDArray[np.float32],
        *,
        seed: int,  # noqa: ARG002
    ) -> "Fitted":
        """Ridge regression."""
        from openmae.evaluation.heads.ridge import fit_numbers

        return fit_numbers(features_ND, (targets - self.mean) / self.std, test_MD)

    def answers(self, outputs_BO: Tensor) -> Tensor:
        """[B]: the number, in the unit of the training numbers."""
        return (outputs_BO[:, 0].double() * self.std + self.mean).cpu()

    def columns(self, answers: Tensor) -> dict[str, pa.Array]:
        return {"number": pa.array(answers.numpy())}

    def notes(self) -> dict[str, Any]:
        return {"task": self.name, "mean": self.mean, "std": self.std}


def _rounded(error: Tensor) -> float:
    """To six digits, whatever the unit."""
    return float(f"{float(error):.6g}")
