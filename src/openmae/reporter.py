"""The one voice: messages, progress and curves go from here to the terminal, to log.txt and to trackers.

Code says what it has to say with `say`, wherever it is; nobody passes a console around. Where it goes is decided by the
reporter in use: that of a command, of a test, or by default the terminal.

>>> with use(Reporter(console=Console(quiet=True))) as reporter:
...     say("3 images are left out")
>>> reporter.said
['3 images are left out']
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from openmae.errors import UserError

SECONDS_BETWEEN_LINES = 15.0
MOST_LINES_KEPT = 200
PROJECT = "openmae"


class Reporter:
    """Where messages go: to standard error, so that standard output holds results only, and to the log of a run.

    Args:
        console: instead of standard error.
        quiet: print nothing; the log is written all the same.
    """

    def __init__(self, *, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self.said: list[str] = []
        """The latest messages that no log has received."""
        self._log: Path | None = None

    def say(self, message: str) -> None:
        """Show a message to the user and write it to the log. Names that strangers gave are made safe here."""
        self.console.print(plain_lines(message), markup=False, highlight=False, soft_wrap=True)
        self.note(message)

    def note(self, message: str) -> None:
        """Write a message to the log only."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {plain_lines(message)}\n"
        if self._log is None:
            self.said = [*self.said[-MOST_LINES_KEPT:], message]
            return
        # A full disk must not end a run for the sake of a message that the terminal has shown.
        with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
            file.write(line)

    def heading(self, text: str) -> None:
        """Show the title of the next part of a long command."""
        self.console.print(Text(text, style="bold"))

    def silence(self) -> None:
        """Print and log nothing from now on: the first of several processes speaks for all."""
        self.console = Console(quiet=True)
        self._log = None

    def log_to(self, file: Path | None) -> None:
        """Append messages to this file from now on, and those that no log has received yet; to none with None."""
        self._log = file
        if file is not None:
            earlier, self.said = self.said, []
            for message in earlier:
                self.note(message)


_CURRENT: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def current() -> Reporter:
    """The reporter in use. A thread starts without one: hand it this one."""
    reporter = _CURRENT.get()
    if reporter is None:
        reporter = Reporter()
        _CURRENT.set(reporter)
    return reporter


@contextmanager
def use(reporter: Reporter) -> Iterator[Reporter]:
    """Report through this one within the block."""
    token = _CURRENT.set(reporter)
    try:
        yield reporter
    finally:
        _CURRENT.reset(token)


def quiet() -> AbstractContextManager[Reporter]:
    """Print nothing within the block; the log of a run is written all the same.

    >>> with quiet():
    ...     say("not shown")
    """
    return use(Reporter(quiet=True))


def say(message: str) -> None:
    """Show a message to the user and write it to the log of the run."""
    current().say(message)


def note(message: str) -> None:
    """Write a message to the log of the run only."""
    current().note(message)


class ProgressView:
    """Shows how far long work is: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, total: int, *, done: int = 0) -> None:
        self._console = current().console
        self._title, self._total, self._done, self._start_done = title, total, done, done
        self._live = self._console.is_terminal and not self._console.quiet
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressView":
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done, figures="")
        return self

    def update(self, done: int, title: str, figures: str = "", *, total: int | None = None) -> None:
        """Show that `done` of the total is done, with the latest figures, such as "loss 0.412  831 images/s".

        A `total` replaces the one that was expected before.
        """
        self._done = done
        self._total = self._total if total is None else total
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=self._total, description=title, figures=figures)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = (self._last_line - self._started) / max(1, done - self._start_done)
            left = timedelta(seconds=round(rate * (self._total - done)))
            self._console.print(f"{title}  {figures}  {left} left", markup=False, highlight=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()


class Tracker(Protocol):
    """A program that draws curves."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run folder; points after `last_step`, which an earlier process wrote, are hidden."""

    def __init__(self, folder: Path, *, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """Add an array [H, W, 3] uint8."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the W&B project "openmae", named after the run folder; continuing the folder continues the run."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        wandb = _import("wandb")
        identity = f"{folder.resolve().name}-{config['seed']}"
        self._run = wandb.init(
            project=PROJECT, name=folder.name, id=identity, dir=str(folder), config=dict(config), resume="allow"
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of the MLflow experiment "openmae", named after the run folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._mlflow = _import("mlflow")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params(dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def open_tracker(kind: Literal["wandb", "mlflow"], folder: Path, config: Mapping[str, Any]) -> Tracker:
    """Start the tracker that `--track` names, for the run with this folder and configuration.

    Raises:
        UserError: when its package is not installed; the message has the command.
    """
    return WeightsAndBiases(folder, config) if kind == "wandb" else MLflow(folder, config)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"--track {name} needs a package that is not installed; pip install 'openmae[{name}]'"
        ) from error


def plain_lines(text: str) -> str:
    """A message with the names in it made safe for a terminal; its own line breaks stay."""
    return "\n".join(map(plain, text.split("\n")))


def plain(name: str) -> str:
    """A name with every character that does not print as itself (control and direction characters too) spelled out.

    >>> plain("caf\\u00e9 \\x1b[31m.png")
    'café \\\\x1b[31m.png'
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
