"""The run folder: recipe, environment, metrics and log of one run, and whether it may be continued."""

import json
import os
import platform
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from openmae.recipes import Recipe
from openmae.recipes.recipe import from_yaml, to_dict, to_yaml
from openmae.training.checkpoints import write_text

RECIPE, ENVIRONMENT, METRICS, BAD_IMAGES, LOG, RESULTS, ENCODER = (
    "recipe.yaml",
    "environment.json",
    "metrics.jsonl",
    "bad_images.jsonl",
    "log.txt",
    "results.json",
    "encoder.safetensors",
)
# What may differ when a run is continued: none of it changes a result.
MAY_CHANGE = {"devices", "nodes", "workers", "log_every", "save_every_minutes", "keep_last", "max_bad", "eval_every"}
PACKAGES = ("openmae", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "pyarrow", "safetensors")


class Run:
    """One run folder, opened to start or to continue. Only the first process of a distributed run writes to it."""

    def __init__(self, path: Path, recipe: Recipe, *, writes: bool, console: Console) -> None:
        self.path = path
        self.recipe = recipe
        self.writes = writes
        self.console = console
        self._tensorboard: SummaryWriter | None = None
        if not writes:
            return
        check_continuable(path, recipe)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / RECIPE, to_yaml(recipe))
            write_text(path / ENVIRONMENT, json.dumps(describe_environment(recipe.seed), indent=1))
        except OSError as error:
            raise ValueError(
                f"cannot write to {path} ({error.strerror}); give --out a folder that you may write"
            ) from error

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def say(self, message: str) -> None:
        """Tell the user, on the terminal and in log.txt."""
        if self.writes:
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop what was logged after `step`: it is about to be logged again."""
        path = self.path / METRICS
        if self.writes and path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))
        if self.writes:
            self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, **values: float) -> None:
        """Add one line to metrics.jsonl and one point to every TensorBoard curve."""
        if not self.writes:
            return
        self.append(METRICS, {"step": step, **values})
        assert self._tensorboard is not None, "rewind_metrics comes before log"
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one JSON line to a file of the folder."""
        if self.writes:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def finished(self) -> dict[str, Any] | None:
        """The results of this run if it has been completed, else None."""
        file = self.path / RESULTS
        if not file.is_file():
            return None
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        self.say(f"{self.path} is already finished; delete it or use another --out to train again")
        return results

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mark the run as completed, with its results."""
        if self.writes:
            write_text(self.path / RESULTS, json.dumps(results, indent=1))
        return results

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


R = TypeVar("R", bound=Recipe)


def fit_batch(recipe: R, images: int, *, even: bool = False) -> R:
    """`recipe`, with a smaller batch where there are not enough images for one; mixup wants an `even` number."""
    if images >= recipe.batch_size:
        return recipe
    return replace(recipe, batch_size=max(1, images - images % 2 if even else images))


def check_continuable(path: Path, recipe: Recipe) -> None:
    """Raise ValueError when `path` holds a run of another recipe."""
    file = path / RECIPE
    if not file.is_file():
        return
    old, new = to_dict(from_yaml(file.read_text(encoding="utf-8"))), to_dict(recipe)
    changed = [name for name in new if name not in MAY_CHANGE and old.get(name) != new[name]]
    if changed:
        differences = ", ".join(f"{name} {old.get(name)} there, {new[name]} now" for name in changed[:3])
        raise ValueError(
            f"{path} holds another run ({differences}); use another --out, or the same command as before to continue it"
        )


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, command line and seed: what one needs to know to repeat a run."""
    return {
        "command": sys.argv,
        "seed": seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _step_of(line: str) -> int:
    """The step of a metrics line; a line cut short by a crash counts as the future."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize
