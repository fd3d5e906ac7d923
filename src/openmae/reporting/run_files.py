"""A run as its folder tells it, to whoever looks from outside: `openmae watch`, `runs` and `report`.

The files may be somebody else's, of another version, half copied, or written to at this moment. So sizes are bounded,
values of a wrong kind are left out, and a line that is cut short is not there yet.

Nothing in a folder says outright that a run has crashed. The state is what can be known from outside:

- finished: there is results.json, which is written last.
- running: a process has locked the folder. Where this machine cannot see that (another host without shared locks, s3://),
  a file was written in the last ten minutes, or within five times the usual pause between two log lines.
- stopped: the log ends with a request to stop, by Ctrl-C, SIGTERM or Slurm. Everything is saved.
- crashed: anything else. `ending` has the error if the process had the time to log it; killed ones have not.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from openmae.checkpoints.locking import is_locked
from openmae.checkpoints.names import ALARMS, ENVIRONMENT, LOG, METRICS, RECIPE, RESULTS
from openmae.errors import UserError
from openmae.reporting.growing_files import GrowingFile, json_object
from openmae.reporting.run_places import FileFacts, RunPlace
from openmae.terminal.panel import State
from openmae.training.processes.stopping import ASKED_TO_STOP, FAILED

Metrics: TypeAlias = dict[str, float]

MOST_OF_FILE = 32 << 20
MOST_OF_LOG = 16 << 10
MOST_OF_TEXT = 1000
LARGEST = 1 << 62  # of whole numbers: larger ones are no figures, and may be too large for a float
RECENT_SECONDS = 600.0
RECENT_LINES = 5
LENGTH_OF_TIME = len("2026-12-01 00:00:00 ")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run folder at one moment.

    Args:
        path: as it was given.
        name: the last part of the path.
        recipe: the values of recipe.yaml as it was written, whatever version wrote it.
        stage: pretrain, linear or finetune; "" when the recipe does not say.
        metrics: the lines of metrics.jsonl, numbers only, each with "step". Lines without "epoch" are evaluations.
        alarms: the lines of alarms.jsonl: step, kind, message.
        results: results.json; None before the run is finished.
        environment: environment.json of the newest process; {} without one.
        state: see above.
        started: when the newest process of the run started, in seconds since 1970; None when nobody says.
        updated: when a file was last written.
        ending: why the run is stopped or has crashed, as its log ends; "" when it does not say.
    """

    path: str
    name: str
    recipe: dict[str, Any]
    stage: str
    metrics: list[Metrics] = field(repr=False)
    alarms: list[dict[str, Any]]
    results: dict[str, Any] | None = field(repr=False)
    environment: dict[str, Any] = field(repr=False)
    state: State
    started: float | None
    updated: float | None
    ending: str = ""

    @property
    def steps(self) -> list[Metrics]:
        """The lines of training steps: loss, rate, speed."""
        return [line for line in self.metrics if "epoch" in line and "quality/loss" not in line]

    @property
    def evaluations(self) -> list[Metrics]:
        """The lines of evaluations on the test split: top1 and its like."""
        return [line for line in self.metrics if "epoch" not in line]

    @property
    def quality(self) -> list[Metrics]:
        """The lines of label-free quality."""
        return [line for line in self.metrics if "quality/loss" in line]


def read_run(path: str | Path) -> RunFiles:
    """Read a run folder: a local path, or a URL such as s3://bucket/runs/mine.

    Raises:
        UserError: when there is no such folder, or it is no run folder.
    """
    return RunReader(path).read()


class RunReader:
    """Reads a run again and again, and each time only what is new.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self._path, self._place = path, RunPlace(path)
        self._texts: dict[str, tuple[FileFacts, str]] = {}
        self._metrics, self._alarms = GrowingFile(METRICS), GrowingFile(ALARMS)

    def read(self) -> RunFiles:
        """The run as it is now.

        Raises:
            UserError: when there is no such folder, or it is no run folder.
        """
        files = self._place.files()
        if RECIPE not in files:
            raise UserError(
                f"{self._place.path} is no run folder: it has no {RECIPE}; give a folder that a training has written"
            )
        recipe = _recipe(self._text(files, RECIPE))
        results = json_object(self._text(files, RESULTS)) if RESULTS in files else None
        environment = json_object(self._text(files, ENVIRONMENT)) or {}
        ending = _ending(self._text(files, LOG, most=MOST_OF_LOG))
        metrics = [line for record in self._metrics.read(self._place, files) if (line := _numbers(record)) is not None]
        alarms = [alarm for record in self._alarms.read(self._place, files) if (alarm := _alarm(record)) is not None]
        updated = max((facts.changed for facts in files.values() if facts.changed is not None), default=None)
        return RunFiles(
            path=str(self._path),
            name=self._place.name,
            recipe=recipe,
            stage=str(recipe.get("stage", "")),
            metrics=metrics,
            alarms=alarms,
            results=results,
            environment=environment,
            state=_state(self._place, results is not None, ending, updated, metrics),
            started=_started(environment),
            updated=updated,
            ending=ending.removeprefix(ASKED_TO_STOP).removeprefix(FAILED),
        )

    def _text(self, files: Mapping[str, FileFacts], name: str, *, most: int = MOST_OF_FILE) -> str:
        """The text of a file, the end of a large one; "" without it."""
        facts = files.get(name)
        if facts is None:
            return ""
        known, text = self._texts.get(name, (None, ""))
        if facts != known or facts.changed is None:
            data = self._place.read(name, start=max(0, facts.size - most), end=facts.size)
            text = data.decode("utf-8", errors="replace")
            self._texts[name] = facts, text
        return text


def _state(place: RunPlace, finished: bool, ending: str, updated: float | None, metrics: Sequence[Metrics]) -> State:
    if finished:
        return "finished"
    locked = None if place.local is None else is_locked(place.local)
    if locked:
        return "running"
    if ending.startswith(ASKED_TO_STOP):
        return "stopped"
    if locked is False or ending.startswith(FAILED):
        return "crashed"
    # Without any time, as over plain http, nobody can say that it has ended.
    recent = updated is None or time.time() - updated < max(RECENT_SECONDS, RECENT_LINES * _pause(metrics))
    return "running" if recent else "crashed"


def _pause(metrics: Sequence[Metrics]) -> float:
    """Seconds between the last two lines of training steps."""
    lines = [line for line in metrics[-50:] if "samples" in line and line.get("images_per_second", 0) > 0][-2:]
    if len(lines) < 2:
        return 0.0
    seconds = (lines[1]["samples"] - lines[0]["samples"]) / lines[1]["images_per_second"]
    return seconds if math.isfinite(seconds) else 0.0


def _recipe(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _numbers(record: dict[str, Any]) -> Metrics | None:
    """The numbers of a line; None for one without a step."""
    numbers = {
        name: value
        for name, value in record.items()
        if type(value) is float or (type(value) is int and abs(value) < LARGEST)
    }
    return numbers if type(numbers.get("step")) is int else None


def _alarm(record: dict[str, Any]) -> dict[str, Any] | None:
    step, kind, message = (record.get(name) for name in ("step", "kind", "message"))
    if type(step) is not int or not isinstance(kind, str) or not isinstance(message, str):
        return None
    return {**record, "kind": kind[:MOST_OF_TEXT], "message": message[:MOST_OF_TEXT]}


def _ending(log: str) -> str:
    """The last line of a log without its time, if it says why the run ended; else ""."""
    lines = log.rstrip("\n").rsplit("\n", 1)
    last = lines[-1][LENGTH_OF_TIME:]
    return last[:MOST_OF_TEXT] if last.startswith((ASKED_TO_STOP, FAILED)) else ""


def _started(environment: dict[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(environment.get("started", ""))).timestamp()
    except (ValueError, OverflowError):
        return None
