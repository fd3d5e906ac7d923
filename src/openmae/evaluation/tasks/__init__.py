"""Tasks: what is learnt from the labels. A task is one file here, a line in `TASKS`, and a choice of `--task`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmae.data.targets import Targets
from openmae.errors import UserError
from openmae.evaluation.tasks.classification import Classification
from openmae.evaluation.tasks.multilabel import Multilabel
from openmae.evaluation.tasks.regression import Regression
from openmae.evaluation.tasks.task import Task
from openmae.recipes.values import ClassWeights, TaskName

TASKS: dict[TaskName, type[Task]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
}


def task_for(name: TaskName, targets: Targets, class_weights: ClassWeights = "equal") -> Task:
    """The task of this name, for these training targets.

    Raises:
        UserError: when there is nothing to learn from them, or the task has no classes to balance.
    """
    task = TASKS[name].from_targets(targets)
    if class_weights == "equal":
        return task
    if not isinstance(task, Classification):
        raise UserError(
            f"--class-weights balanced makes rare classes count as much as frequent ones, and {name} has no classes; "
            "leave it out"
        )
    return task.balanced(targets)


def task_from_notes(notes: Mapping[str, Any], outputs: int, file: Path) -> Task:
    """The task of a trained head with so many outputs, by the notes of its file; classification where it has none.

    Raises:
        UserError: when the notes do not describe one.
    """
    name = notes.get("task", "classification")
    kind = next((kind for known, kind in TASKS.items() if known == name), None)
    try:
        if kind is None:
            raise ValueError(f"there is no task {str(name)[:40]!r}")
        return kind.from_notes(notes, outputs)
    except ValueError as error:
        raise UserError(
            f"{file} does not say in a usable way what its outputs mean ({error}); train its head anew, or use another "
            "copy"
        ) from error
