"""Any number of labels for each image: binary cross-entropy, mean average precision."""

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
from openmae.evaluation.tasks.notes import texts
from openmae.recipes.values import TaskName

if TYPE_CHECKING:
    from openmae.evaluation.heads.fitted import Fitted

LIKELY = 0.5


@dataclass(frozen=True, kw_only=True)
class Multilabel:
    """The head gives a logit for each of the `labels`."""

    name: ClassVar[TaskName] = "multilabel"
    kind: ClassVar[Kind] = "labels"
    mixes: ClassVar[bool] = False  # timm's mixup knows classes only

    labels: tuple[str, ...]

    @classmethod
    def from_targets(cls, targets: Targets) -> "Multilabel":
        if not targets.values.any():
            raise UserError(
                "no training image has any label; give --labels a CSV file such as path,label with crack;rust, or "
                "Parquet with lists of labels"
            )
        return cls(labels=targets.names)

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], outputs: int) -> "Multilabel":
        """Numbers name the labels where the notes do not."""
        return cls(labels=texts(notes.get("labels", list(map(str, range(outputs)))), outputs))

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def describe(self) -> str:
        return f"{len(self.labels)} labels"

    def loss(self, outputs_BO: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Binary cross-entropy with targets [B, O] of 0 and 1."""
        assert not label_smoothing, "this task does not mix"
        return F.binary_cross_entropy_with_logits(outputs_BO, targets.to(outputs_BO.dtype))

    def rows(self, outputs_BO: Tensor, targets: Tensor) -> Tensor:
        """[B, 2, O]: outputs, and targets."""
        return torch.stack([outputs_BO, targets.to(outputs_BO.dtype)], dim=1)

    def figures(self, rows: Tensor) -> dict[str, float]:
        """Mean average precision in per cent over the labels that occur; `chance` is that of random outputs."""
        targets = rows[:, 1].long()
        occurring = targets.any(dim=0)
        if not occurring.any():
            raise UserError("no test image has any of the labels; give a test split with labels, or leave it out")
        precisions = [_average_precision(rows, int(label)) for label in occurring.nonzero()]
        precision, chance = torch.stack(precisions).double().mean(), targets[:, occurring].double().mean()
        return {"mean_average_precision": round(100 * float(precision), 4), "chance": round(100 * float(chance), 4)}

    def details(self, rows: Tensor) -> dict[str, Any]:
        """Average precision per label in per cent; None for a label that no image has."""
        images = rows[:, 1].long().sum(dim=0).tolist()
        precisions = [
            round(100 * float(_average_precision(rows, label)), 4) if images[label] else None
            for label in range(self.outputs)
        ]
        return {
            "per_label": [
                {"name": name, "images": count, "average_precision": precision}
                for name, count, precision in zip(self.labels, images, precisions, strict=True)
            ]
        }

    def fit(
        self, features_ND: NDArray[np.float32], targets: NDArray[np.bool_], test_MD: NDArray[np.float32], *, seed: int
    ) -> "Fitted":
        """A logistic regression for each label, all with the same penalty."""
        from openmae.evaluation.heads.logistic import fit_labels

        return fit_labels(features_ND, targets, test_MD, seed=seed)

    def answers(self, outputs_BO: Tensor) -> Tensor:
        """[B, O]: the probability of each label."""
        return outputs_BO.double().sigmoid().cpu()

    def columns(self, answers: Tensor) -> dict[str, pa.Array]:
        """The labels whose probability is at least 0.5, and the probability of each."""
        chosen = [[self.labels[place] for place in row.nonzero()[:, 0].tolist()] for row in answers >= LIKELY]
        probabilities = answers.numpy().T
        named = zip(self.labels, probabilities, strict=True)
        return {
            "labels": pa.array(chosen, pa.list_(pa.string())),
            **{f"probability of {name}": pa.array(values) for name, values in named},
        }

    def notes(self) -> dict[str, Any]:
        return {"task": self.name, "labels": list(self.labels)}


def _average_precision(rows: Tensor, label: int) -> Tensor:
    from torchmetrics.functional.classification import binary_average_precision

    # Ranks instead of logits: torchmetrics takes the sigmoid of logits, after which large ones are equal.
    return binary_average_precision(_ranks(rows[:, 0, label]), rows[:, 1, label].long())


def _ranks(scores_N: Tensor) -> Tensor:
    """Numbers in 0 … 1 in the same order; equal scores stay equal."""
    _, places = torch.unique(scores_N, return_inverse=True)
    ranks: Tensor = places.double() / len(scores_N)
    return ranks
