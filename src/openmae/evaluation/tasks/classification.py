"""One class for each image: cross-entropy, top-1 and top-5 accuracy."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openmae.data.targets import Kind, Targets
from openmae.errors import UserError
from openmae.evaluation.accuracy import hits, scores_of
from openmae.recipes.values import TaskName


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The head gives a score for each of the `classes`."""

    name: ClassVar[TaskName] = "classification"
    kind: ClassVar[Kind] = "class"
    mixes: ClassVar[bool] = True

    classes: tuple[str, ...]

    @classmethod
    def from_targets(cls, targets: Targets) -> "Classification":
        if len(targets.names) < 2:
            raise UserError(
                "these images have no labels to measure with; put each class into a folder of its own, or give Parquet "
                "with a label column"
            )
        return cls(classes=targets.names)

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def describe(self) -> str:
        return f"{len(self.classes)} classes"

    def loss(self, outputs_BO: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy with classes [B], or with probabilities [B, O], which have been smoothed before."""
        if targets.is_floating_point():
            return F.cross_entropy(outputs_BO, targets.to(outputs_BO.dtype))
        return F.cross_entropy(outputs_BO, targets, label_smoothing=label_smoothing)

    def rows(self, outputs_BO: Tensor, targets: Tensor) -> Tensor:
        return torch.from_numpy(hits(outputs_BO.numpy(), targets.numpy()))

    def figures(self, rows: Tensor) -> dict[str, float]:
        scores = scores_of(rows.numpy())
        return {"top1": scores.top1, "top5": scores.top5}

    def fit(
        self, features_ND: NDArray[np.float32], targets: NDArray[np.int64], test_MD: NDArray[np.float32], *, seed: int
    ) -> NDArray[np.float32]:
        """Multinomial logistic regression."""
        from openmae.evaluation.heads.logistic import class_probabilities

        return class_probabilities(features_ND, targets, test_MD, classes=self.outputs, seed=seed)

    def notes(self) -> dict[str, Any]:
        return {"task": self.name, "classes": self.classes}
