"""Curves beside TensorBoard's: Weights & Biases or MLflow, where the user has them."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.saved import to_dict

PROJECT = "openmae"


class Tracker(Protocol):
    """Where figures go."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class WeightsAndBiases:
    """A run of the W&B project "openmae", named after the run folder; continuing the folder continues the run."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        wandb = _import("wandb")
        identity = f"{folder.resolve().name}-{recipe.seed}"
        self._run = wandb.init(
            project=PROJECT, name=folder.name, id=identity, dir=str(folder), config=to_dict(recipe), resume="allow"
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of the MLflow experiment "openmae", named after the run folder."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._mlflow = _import("mlflow")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params(to_dict(recipe))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def open_tracker(kind: Literal["wandb", "mlflow"], folder: Path, recipe: Recipe) -> Tracker:
    """Start the tracker that `--track` names.

    Raises:
        UserError: when its package is not installed; the message has the command.
    """
    return WeightsAndBiases(folder, recipe) if kind == "wandb" else MLflow(folder, recipe)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"--track {name} needs a package that is not installed; pip install 'openmae[{name}]'"
        ) from error
