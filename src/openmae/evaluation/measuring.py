"""A trained model measured on the test images, after each epoch and at the end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from openmae.data.batches import BadRecord, Batch
from openmae.data.transforms import normalise_pixels
from openmae.errors import UserError
from openmae.evaluation.forward import evaluation_images, run_over
from openmae.evaluation.splits import Split
from openmae.evaluation.tasks.task import Task
from openmae.evaluation.unreadable import list_unreadable, say_unreadable
from openmae.recipes import SupervisedRecipe
from openmae.training.processes.devices import choose_workers
from openmae.training.runs import Run
from openmae.weights.networks import network_of

EVALUATION_BATCH = 64


class Measured(NamedTuple):
    """The `figures` of a task over the readable test `images`, `details` for results.json, and the unreadable ones."""

    figures: dict[str, float]
    details: dict[str, Any]
    images: int
    bad: list[BadRecord]


class Evaluation:
    """Measures a model on the test images whenever it is called, and keeps the newest measurement.

    Args:
        fabric: the processes, which evaluate together.
        run: lists the unreadable images, each once.
        recipe: how the images are prepared.
        task: what is measured.
        test: the images.
    """

    def __init__(self, fabric: Fabric, run: Run, recipe: SupervisedRecipe, task: Task, test: Split) -> None:
        self._fabric, self._run, self._recipe, self._task, self._test = fabric, run, recipe, task, test
        self._newest: Measured | None = None

    def __call__(self, model: nn.Module, give_up: Callable[[], bool]) -> dict[str, float] | None:
        """The figures; None if any process has given up."""
        measured = evaluate(self._fabric, model, self._recipe, self._task, self._test, give_up)
        if measured is None:
            return None
        if self._newest is None:
            say_unreadable(measured.bad, len(self._test), "test")
            list_unreadable(self._run, measured.bad, "test")
        self._newest = measured
        return measured.figures

    @property
    def newest(self) -> Measured:
        assert self._newest is not None, "every training ends with an evaluation"
        return self._newest


def evaluate(
    fabric: Fabric,
    model: nn.Module,
    recipe: SupervisedRecipe,
    task: Task,
    test: Split,
    give_up: Callable[[], bool] = lambda: False,
) -> Measured | None:
    """The figures of the task on every readable test image, each counted once; None if any process has given up.

    They are the same for any number of processes, and each of them gets them.
    """
    model.eval()
    if fabric.world_size > 1:
        # The statistics of batch normalisation are each process's own; the first one's are saved, so they are measured.
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def rows_of(batch: Batch) -> Tensor:
        with fabric.autocast():
            outputs = model(normalise_pixels(batch.images, recipe.mean, recipe.std))
        assert batch.targets is not None
        return task.rows(outputs.float().cpu(), batch.targets)

    passed = run_over(
        fabric,
        evaluation_images(network_of(recipe), test.images, test.targets),
        rows_of,
        empty=task.rows(torch.empty(0, task.outputs), torch.from_numpy(test.targets.values[:0])),
        batch_size=EVALUATION_BATCH,
        workers=choose_workers(recipe),
        give_up=give_up,
    )
    if passed is None:
        return None
    return Measured(task.figures(passed.rows), task.details(passed.rows), len(passed.rows), passed.bad)


def require_readable(recipe: SupervisedRecipe, test: Split) -> None:
    """Read test images until one is good.

    Raises:
        UserError: when none is; before the training, which the measurement at its end would be missing from.
    """
    dataset = evaluation_images(network_of(recipe), test.images)
    bad: list[BadRecord] = []
    for index in range(len(dataset)):
        sample = dataset[0, index]
        if sample.views:
            return
        bad += sample.bad
    raise UserError(
        f"none of the {len(bad)} test images can be decoded, e.g. {bad[0].name} ({bad[0].reason}); check --data"
    )
