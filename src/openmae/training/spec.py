"""The parts of a training that each stage (pre-training, linear evaluation, fine-tuning) specifies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.data.batches import Batch, SeededImages
from openmae.recipes import Recipe

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """The specification of a training, which a stage passes to `train`.

    Args:
        recipe: how to train.
        model: the network, on the CPU, freshly initialised.
        optimizer: makes the optimizer for it, once it is where it will be trained.
        dataset: the training images.
        loss: (model as fabric wraps it, batch on the device) to the mean loss of that batch.
        evaluate: (model, whether to give up) to named figures, or None after giving up; None when there is nothing to
            evaluate on.
        exports: model to the tensors of each file written at the end, by file name.
        metadata: of those files and of the checkpoints.
    """

    recipe: Recipe
    model: nn.Module
    optimizer: Callable[[nn.Module], Optimizer]
    dataset: SeededImages
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module, Callable[[], bool]], dict[str, float] | None] | None
    exports: Callable[[nn.Module], Mapping[str, Tensors]]
    metadata: Mapping[str, str]
