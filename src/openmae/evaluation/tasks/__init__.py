"""Tasks: what is learnt from the labels. A task is one file here, a line in `TASKS`, and a choice of `--task`."""

from collections.abc import Mapping
from dataclasses import fields
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


def task_from_notes(notes: Mapping[str, Any]) -> Task:
    """The task whose `notes` a file of weights has."""
    kind = TASKS[notes["task"]]
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # each task is a dataclass
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in notes.items()}
    return kind(**{name: value for name, value in values.items() if name in names})
