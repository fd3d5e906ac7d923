"""The run folder: recipe, environment, metrics and log of one run, and whether it may be continued."""

import contextlib
import json
import os
import platform
import shutil
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

from openmae.checkpoints.checkpoint import directory_name, list_checkpoints
from openmae.checkpoints.locking import FolderLock
from openmae.checkpoints.names import (
    BAD_IMAGES,
    CHECKPOINTS,
    ENVIRONMENT,
    LOG,
    METRICS,
    RECIPE,
    RESULTS,
    REWINDS,
)
from openmae.errors import UserError
from openmae.files import sync_file, write_text
from openmae.recipes import Recipe
from openmae.recipes.differences import differences_in_results
from openmae.recipes.saved import from_yaml, to_dict, to_yaml
from openmae.reporter import TensorBoard, Tracker, current, open_tracker, say

PACKAGES = ("openmae", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "pyarrow", "safetensors")


class Run:
    """One run folder, opened to start or to continue. Only the first process of a distributed run writes to it."""

    def __init__(self, path: Path, recipe: Recipe, *, writes: bool) -> None:
        self.path = path
        self.recipe = recipe
        self.writes = writes
        self._tensorboard: TensorBoard | None = None
        self._tracker: Tracker | None = None
        self._lock: FolderLock | None = None
        self._unwritten: dict[str, str] = {}
        self.figures: dict[str, Any] = {}
        """The newest of each figure that is logged."""
        check_continuable(path, recipe)
        if not writes or (path / RESULTS).is_file():
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(path)
            if not _has_begun(path):
                shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)  # first weights, maybe of another recipe
            write_text(path / RECIPE, to_yaml(recipe))
            write_text(path / ENVIRONMENT, json.dumps(describe_environment(recipe.seed), indent=1))
            current().log_to(path / LOG)
        except OSError as error:
            raise UserError(
                f"cannot write to {path} ({error.strerror}); give --out a folder that you may write"
            ) from error

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def rewind(self, step: int) -> dict[str, Any]:
        """Drop the figures that were logged after `step`, and will be again; returns the newest of each figure left.

        Lines that a crash cut short go too.
        """
        kept = [record for record in self.records(METRICS) if record.get("step", sys.maxsize) <= step]
        self._unwritten.pop(METRICS, None)
        if self.writes:
            for name, records in ((METRICS, kept), (BAD_IMAGES, self.records(BAD_IMAGES))):
                if (self.path / name).exists():
                    write_text(self.path / name, "".join(json.dumps(record) + "\n" for record in records))
            if self._tensorboard is not None:
                self._tensorboard.close()
            self._tensorboard = TensorBoard(self.path / "tensorboard", last_step=step)
            if self.recipe.track is not None and self._tracker is None:
                self._tracker = open_tracker(self.recipe.track, self.path, to_dict(self.recipe))
        self.figures = {name: value for record in kept for name, value in record.items() if name != "step"}
        return dict(self.figures)

    def log(self, step: int, **values: float) -> None:
        """Add one line to metrics.jsonl and one point to every TensorBoard curve."""
        self.figures |= values
        if not self.writes:
            return
        self.append(METRICS, {"step": step, **values})
        if self._tensorboard is not None:
            try:
                self._tensorboard.log(step, values)
            except OSError as error:
                self._tensorboard = None
                say(f"TensorBoard's curves end at step {step} ({error.strerror}); {METRICS} has every figure")
        if self._tracker is not None:
            self._tracker.log(step, values)

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one JSON line to a file of the folder; a line that a full disk refuses is written with a later one."""
        if not self.writes:
            return
        lines = self._unwritten.pop(name, "") + json.dumps(record) + "\n"
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError:
            self._unwritten[name] = f"\n{lines}" if not lines.startswith("\n") else lines  # a half may be there

    def sync(self) -> None:
        """Make the lines that were logged so far survive a power cut."""
        for name in (METRICS, BAD_IMAGES, REWINDS):
            with contextlib.suppress(FileNotFoundError):
                sync_file(self.path / name)

    def records(self, name: str) -> list[dict[str, Any]]:
        """The complete JSON lines of a file of the folder; none when there is no such file."""
        try:
            lines = (self.path / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [record for line in lines if (record := _parse(line)) is not None]

    def was_evaluated(self, step: int) -> bool:
        """Whether an evaluation after this step has been logged."""
        return any(record.get("step") == step and "epoch" not in record for record in self.records(METRICS))

    def finished(self) -> dict[str, Any] | None:
        """The results of this run if it has been completed, else None."""
        file = self.path / RESULTS
        if not file.is_file():
            return None
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        say(f"{self.path} is already finished; delete it or use another --out to train again")
        return results

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mark the run as completed, with its results."""
        if self.writes:
            write_text(self.path / RESULTS, json.dumps(results, indent=1))
        return results

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._tracker is not None:
            self._tracker.close()
        if self._lock is not None:
            current().log_to(None)
            self._lock.release()


R = TypeVar("R", bound=Recipe)


def fit_batch(recipe: R, images: int, *, even: bool = False) -> R:
    """`recipe`, with a smaller batch where there are not enough images for one; mixup wants an `even` number."""
    if images >= recipe.batch_size:
        return recipe
    say(f"{images} images do not fill a batch of {recipe.batch_size}: taking all of them as one batch")
    return replace(recipe, batch_size=max(1, images - images % 2 if even else images))


def check_continuable(path: Path, recipe: Recipe) -> None:
    """Raise UserError when `path` holds a run of another recipe; one that never logged a step is no run."""
    file = path / RECIPE
    if not file.is_file() or not _has_begun(path):
        return
    changed = differences_in_results(from_yaml(file.read_text(encoding="utf-8")), recipe)
    if changed:
        differences = ", ".join(f"{name} {old} there, {new} now" for name, old, new in changed[:3])
        raise UserError(
            f"{path} holds another run ({differences}); use another --out, or the same command as before to continue it"
        )


def _has_begun(path: Path) -> bool:
    """Whether anything of a run would be lost: a figure, or a checkpoint of more than the first weights."""
    if any((path / name).exists() for name in (METRICS, RESULTS)):
        return True
    return any(checkpoint.name != directory_name(0) for checkpoint in list_checkpoints(path / CHECKPOINTS))


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, command line and seed, which are needed to repeat a run."""
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


def _parse(line: str) -> dict[str, Any] | None:
    """The record of one line; None for a line that a crash cut short."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
