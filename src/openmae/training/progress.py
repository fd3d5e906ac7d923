"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0


class ProgressView:
    """Shows how far a task is; `note` is the latest figures, such as "loss 0.412  831 images/s"."""

    def __init__(self, title: str, total: int, console: Console, *, done: int = 0, quiet: bool = False) -> None:
        self._title, self._total, self._done, self._start_done = title, total, done, done
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressView":
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done, note="")
        return self

    def update(self, done: int, title: str, note: str = "") -> None:
        """Show that `done` of the total is done."""
        self._done = done
        if self._task is not None:
            self._bar.update(self._task, completed=done, description=title, note=note)
        elif not self._quiet and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = (self._last_line - self._started) / max(1, done - self._start_done)
            left = timedelta(seconds=round(rate * (self._total - done)))
            self._console.print(f"{title}  {note}  {left} left", markup=False, highlight=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()
