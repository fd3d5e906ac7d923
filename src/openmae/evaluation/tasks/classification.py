"""One class for each image: cross-entropy, top-1 and top-5 accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openmae.data.targets import Kind, Targets
from openmae.errors import UserError
from openmae.evaluation.accuracy import outcomes, scores_of
from openmae.evaluation.confusion import class_figures
from openmae.evaluation.tasks.notes import texts
from openmae.recipes.values import TaskName

if TYPE_CHECKING:
    from openmae.evaluation.heads.fitted import Fitted

SHOWN = 5
"""So many classes are named for each image."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The head gives a score for each of the `classes`.

    Args:
        classes: their names.
        weights: how much an image of each class counts in the loss; () when all count the same.
    """

    name: ClassVar[TaskName] = "classification"
    kind: ClassVar[Kind] = "class"
    mixes: ClassVar[bool] = True

    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def from_targets(cls, targets: Targets) -> "Classification":
        if len(targets.names) < 2:
            raise UserError(
                "these images have no labels to measure with; put each class into a folder of its own, or give Parquet "
                "with a label column"
            )
        return cls(classes=targets.names)

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], outputs: int) -> "Classification":
        """Numbers name the classes where the notes do not."""
        return cls(classes=texts(notes.get("classes", list(map(str, range(outputs)))), outputs))

    def balanced(self, targets: Targets) -> "Classification":
        """The same with weights inverse to how frequent the classes are: N images / (K classes x images of the class).

        K counts the classes that occur. The mean weight of an image is then 1, and each class has the same sum of
        weights: scikit-learn's "balanced".
        """
        images = np.bincount(targets.values, minlength=self.outputs)
        weights = images.sum() / (np.count_nonzero(images) * np.maximum(images, 1))
        return replace(self, weights=tuple(map(float, weights)))

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def describe(self) -> str:
        return f"{len(self.classes)} classes"

    def loss(self, outputs_BO: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy with classes [B], or with probabilities [B, O], which have been smoothed before.

        With weights, each class's part of the target counts by its weight; the sum is divided by B, not by the weights,
        so that it does not depend on which images are in a batch together.
        """
        if self.weights:
            weights_O = _on_device(self.weights, outputs_BO.device, outputs_BO.dtype)
            if targets.is_floating_point():
                targets, label_smoothing = targets.to(outputs_BO.dtype), 0.0
            losses_B = F.cross_entropy(
                outputs_BO, targets, weights_O, label_smoothing=label_smoothing, reduction="none"
            )
            return losses_B.mean()
        if targets.is_floating_point():
            return F.cross_entropy(outputs_BO, targets.to(outputs_BO.dtype))
        return F.cross_entropy(outputs_BO, targets, label_smoothing=label_smoothing)

    def rows(self, outputs_BO: Tensor, targets: Tensor) -> Tensor:
        """[B, 4]: see `accuracy.outcomes`."""
        return torch.from_numpy(outcomes(outputs_BO.numpy(), targets.numpy()))

    def figures(self, rows: Tensor) -> dict[str, float]:
        scores = scores_of(rows.numpy())
        return {"top1": scores.top1, "top5": scores.top5}

    def details(self, rows: Tensor) -> dict[str, Any]:
        """Accuracy per class, and the confusion matrix."""
        return dict(class_figures(rows.numpy(), self.classes))

    def fit(
        self, features_ND: NDArray[np.float32], targets: NDArray[np.int64], test_MD: NDArray[np.float32], *, seed: int
    ) -> "Fitted":
        """Multinomial logistic regression."""
        from openmae.evaluation.heads.logistic import fit_classes

        balanced = bool(self.weights)
        return fit_classes(features_ND, targets, test_MD, classes=self.outputs, seed=seed, balanced=balanced)

    def answers(self, outputs_BO: Tensor) -> Tensor:
        """[B, 2, K]: the K best classes, the best first, and their probabilities."""
        probabilities, order = outputs_BO.double().softmax(dim=1).sort(dim=1, descending=True, stable=True)
        return torch.stack([order.double(), probabilities], dim=1)[:, :, :SHOWN].cpu()

    def columns(self, answers: Tensor) -> dict[str, pa.Array]:
        """label and probability, then the next best: label_2, probability_2, …"""
        names, found = pa.array(self.classes, pa.string()), {}
        for rank in range(answers.shape[2]):
            ending = f"_{rank + 1}" if rank else ""
            found[f"label{ending}"] = names.take(pa.array(answers[:, 0, rank].long().numpy()))
            found[f"probability{ending}"] = pa.array(answers[:, 1, rank].numpy())
        return found

    def notes(self) -> dict[str, Any]:
        return {"task": self.name, "classes": list(self.classes)}


@cache
def _on_device(weights: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The weights as a tensor; cached, because making it would stall a GPU at every step."""
    return torch.tensor(weights, device=device, dtype=dtype)
