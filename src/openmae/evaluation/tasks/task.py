"""A task is targets, a width of the head, a loss, and figures. Protocols know nothing else of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from openmae.data.targets import Kind, Targets
from openmae.recipes.values import TaskName

if TYPE_CHECKING:
    from openmae.evaluation.heads.fitted import Fitted


class Task(Protocol):
    """The parts of a task that protocols use. Legend: B batch, N images, O outputs of the head, D width."""

    name: ClassVar[TaskName]
    kind: ClassVar[Kind]
    """Of the targets that it learns."""
    mixes: ClassVar[bool]
    """Whether images may be blended (mixup, CutMix) and labels smoothed, because targets can be class probabilities."""

    @classmethod
    def from_targets(cls, targets: Targets) -> "Task":
        """The task for these training targets."""
        ...

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], outputs: int) -> "Task":
        """The task of trained weights with these `notes`, which a stranger may have written.

        Raises:
            ValueError: when they do not describe a task with so many outputs.
        """
        ...

    @property
    def outputs(self) -> int:
        """O: how many numbers the head gives for an image."""
        ...

    def describe(self) -> str:
        """The targets in a few words: "10 classes"."""
        ...

    def loss(self, outputs_BO: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss of a batch; `targets` as the loader gives them, or blended where the task `mixes`."""
        ...

    def rows(self, outputs_BO: Tensor, targets: Tensor) -> Tensor:
        """The values of each image that the figures need, [B, …], on the CPU.

        The rows of all processes are gathered in the order of the images, so that figures do not depend on how many
        processes there are.
        """
        ...

    def figures(self, rows: Tensor) -> dict[str, float]:
        """The figures of N images from their rows; the first is the one to compare by."""
        ...

    def details(self, rows: Tensor) -> dict[str, Any]:
        """More about the same images for results.json, as plain values: how each class or label is recognised."""
        ...

    def fit(
        self, features_ND: NDArray[np.float32], targets: NDArray[Any], test_MD: NDArray[np.float32], *, seed: int
    ) -> "Fitted":
        """Fit the best linear head in closed form or nearly so; with its outputs for the test features."""
        ...

    def answers(self, outputs_BO: Tensor) -> Tensor:
        """The values of each image that a prediction needs, [B, …] float64 on the CPU: probabilities, or a number."""
        ...

    def columns(self, answers: Tensor) -> dict[str, pa.Array]:
        """The columns of a table of predictions, from the answers for N images; the first is the one to use."""
        ...

    def notes(self) -> dict[str, Any]:
        """The meaning of a trained head's outputs, as plain values; saved with its weights."""
        ...
