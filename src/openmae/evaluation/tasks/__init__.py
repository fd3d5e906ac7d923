"""Tasks: what is learnt from the labels. A task is one file here, a line in `TASKS`, and a choice of `--task`."""

from openmae.data.targets import Targets
from openmae.evaluation.tasks.classification import Classification
from openmae.evaluation.tasks.multilabel import Multilabel
from openmae.evaluation.tasks.regression import Regression
from openmae.evaluation.tasks.task import Task
from openmae.recipes.values import TaskName

TASKS: dict[TaskName, type[Task]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
}


def task_for(name: TaskName, targets: Targets) -> Task:
    """The task of this name, for these training targets.

    Raises:
        UserError: when there is nothing to learn from them.
    """
    return TASKS[name].from_targets(targets)
