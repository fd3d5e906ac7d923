"""The run folder: recipe, environment, metrics and log of one run, and whether it may be continued."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from openmae.checkpoints.locking import FolderLock
from openmae.checkpoints.names import (
    ALARMS,
    BAD_IMAGES,
    CHECKPOINTS,
    DATA,
    ENVIRONMENT,
    LOG,
    METRICS,
    RECIPE,
    RESULTS,
    REWINDS,
)
from openmae.data.sources import Source
from openmae.data.targets import Targets
from openmae.errors import UserError, one_line
from openmae.files import write_text
from openmae.recipes import Recipe
from openmae.recipes.saved import to_dict, to_yaml
from openmae.reporter import TensorBoard, Tracker, current, note, open_tracker, say
from openmae.terminal.panel import alarm_text
from openmae.terminal.training_view import TrainingView
from openmae.training.alarms.alarm import Alarm, History
from openmae.training.continuing import (
    NOT_COMPARED,
    Compared,
    compare,
    has_begun,
    moved_to,
    recorded_recipe,
    require_continuable,
)
from openmae.training.environment import describe_environment
from openmae.training.fingerprint import Fingerprint, take_fingerprint
from openmae.training.json_lines import JsonLines
from openmae.training.processes.stopping import ASKED_TO_STOP, FAILED, Interrupted
from openmae.weights.weights import Weights


class Run:
    """One run folder, opened to start or to continue. Only the first process of a distributed run writes to it.

    Args:
        path: the folder.
        recipe: of the run.
        writes: whether this process writes to it.
        data: the images of the run, where this process knows them.
        compared: these images beside those that the run began with.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        *,
        writes: bool,
        data: Fingerprint | None = None,
        compared: Compared = NOT_COMPARED,
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.writes = writes
        self._tensorboard: TensorBoard | None = None
        self._tracker: Tracker | None = None
        self._lock: FolderLock | None = None
        self._lines = {name: JsonLines(path / name) for name in (METRICS, BAD_IMAGES, REWINDS, ALARMS)}
        self.figures: dict[str, Any] = {}
        """The newest of each figure that is logged."""
        self.history = History()
        """The lines of metrics.jsonl, in the process that writes them."""
        self.view: TrainingView | None = None
        """Is told of everything that this process logs, while it trains."""
        self._accepted, self._change = compared.accepted, compared.change
        require_continuable(path, recipe, compared)
        if not writes or (path / RESULTS).is_file():
            return
        before = recorded_recipe(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(path)
            if not has_begun(path):
                shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)  # first weights, maybe of another recipe
            write_text(path / RECIPE, to_yaml(replace(recipe, accept_changed_data=False)))
            write_text(path / ENVIRONMENT, json.dumps(describe_environment(recipe.seed), indent=1))
            current().log_to(path / LOG)
            if data is not None:
                self._record(data, compared, before)
        except OSError as error:
            raise UserError(
                f"cannot write to {path} ({error.strerror}); give --out a folder that you may write"
            ) from error

    def _record(self, data: Fingerprint, compared: Compared, before: Recipe | None) -> None:
        """Write which images the run is of, and say what is unusual about them."""
        if before is not None and compared.known and not compared.change:
            if moved := moved_to(before, self.recipe):
                say(moved)
            return
        if before is not None and compared.known:
            say(f"going on with changed images: {compared.change}")
            self._accepted = (*compared.accepted, compared.change)
        elif before is not None:
            say(f"nobody recorded the images that {self.path} began with; those of now are recorded")
        replace(data, accepted=self._accepted).write(self.path / DATA)

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def rewind(self, step: int) -> dict[str, Any]:
        """Drop the figures that were logged after `step`, and will be again; returns the newest of each figure left.

        Lines that a crash cut short go too.
        """
        kept, alarms = (
            [record for record in self.records(name) if record.get("step", sys.maxsize) <= step]
            for name in (METRICS, ALARMS)
        )
        if self.writes:
            self.history = History(kept)
            for name, records in ((METRICS, kept), (ALARMS, alarms), (BAD_IMAGES, self.records(BAD_IMAGES))):
                self._lines[name].replace(records)
            if self._tensorboard is not None:
                self._tensorboard.close()
            self._tensorboard = TensorBoard(self.path / "tensorboard", last_step=step)
            if self.recipe.track is not None and self._tracker is None:
                self._tracker = open_tracker(self.recipe.track, self.path, to_dict(self.recipe))
        self.figures = {name: value for record in kept for name, value in record.items() if name != "step"}
        if self.view is not None:
            self.view.restart(step, kept, alarm_text(alarms[-1]) if alarms else "")
        return dict(self.figures)

    def log(self, step: int, **values: float) -> None:
        """Add one line to metrics.jsonl and one point to every TensorBoard curve."""
        self.figures |= values
        if not self.writes:
            return
        self.append(METRICS, {"step": step, **values})
        self.history.add({"step": step, **values})
        if self.view is not None:
            self.view.log(step, values)
        self._draw(step, lambda board: board.log(step, values))
        if self._tracker is not None:
            self._tracker.log(step, values)

    def show(self, step: int, name: str, pixels: Any) -> None:
        """Show a picture [H, W, 3] uint8 in TensorBoard."""
        self._draw(step, lambda board: board.picture(step, name, pixels))

    def _draw(self, step: int, draw: Callable[[TensorBoard], None]) -> None:
        if self._tensorboard is None:
            return
        try:
            draw(self._tensorboard)
        except OSError as error:
            self._tensorboard = None
            say(f"TensorBoard's curves end at step {step} ({error.strerror}); {METRICS} has every figure")

    def alarm(self, alarm: Alarm) -> None:
        """Add one line to alarms.jsonl, and show it."""
        record = alarm._asdict()
        self.append(ALARMS, record)
        if self.view is not None:
            self.view.alarmed(alarm_text(record))

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one JSON line to a file of the folder."""
        if self.writes:
            self._lines[name].append(record)

    def sync(self) -> None:
        """Make the lines that were logged so far survive a power cut."""
        for lines in self._lines.values():
            lines.sync()

    def records(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of a file of the folder; none when there is no such file."""
        return self._lines[name].records()

    def was_evaluated(self, step: int) -> bool:
        """Whether an evaluation after this step has been logged."""
        return any(record.get("step") == step and "epoch" not in record for record in self.records(METRICS))

    def finished(self) -> dict[str, Any] | None:
        """The results of this run if it has been completed, else None."""
        file = self.path / RESULTS
        if not file.is_file():
            return None
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        other = " on other images" if self._change else ""
        say(f"{self.path} is already finished{other}; delete it or use another --out to train again")
        return results

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mark the run as completed, with its results."""
        if self._accepted:
            results = {**results, "accepted_data_changes": list(self._accepted)}
        if self.writes:
            write_text(self.path / RESULTS, json.dumps(results, indent=1))
        return results

    @contextlib.contextmanager
    def last_words(self) -> Iterator[None]:
        """Write to the log why the block ended early: `openmae watch` tells stopped runs from crashed ones by it."""
        try:
            yield
        except Interrupted as stopped:
            note(f"{ASKED_TO_STOP}{stopped}")
            raise
        except KeyboardInterrupt:
            note(f"{ASKED_TO_STOP}at once; what came after the last checkpoint is lost")
            raise
        except BaseException as error:
            note(f"{FAILED}{one_line(error)}")
            raise

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._tracker is not None:
            self._tracker.close()
        if self._lock is not None:
            current().log_to(None)
            self._lock.release()


def open_run(
    fabric: Fabric,
    path: Path,
    recipe: Recipe,
    *,
    images: Mapping[str, Source],
    targets: Mapping[str, Targets] | None = None,
    weights: Weights | None = None,
) -> Run:
    """Open a run folder for these images; every process must call this together, and the first one looks at them.

    Args:
        fabric: the processes.
        path: the folder.
        recipe: of the run.
        images: the images that the run uses, by split.
        targets: their targets, where the run uses any.
        weights: those that it starts from.

    Raises:
        UserError: in every process, when the folder holds another run, or one of other images.
    """
    data, compared = None, NOT_COMPARED
    if fabric.is_global_zero:
        data = take_fingerprint(images, targets, weights="" if weights is None else weights.digest)
        compared = compare(path, data)
    return Run(path, recipe, writes=fabric.is_global_zero, data=data, compared=fabric.broadcast(compared))
