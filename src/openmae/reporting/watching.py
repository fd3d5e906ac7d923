"""Runs that train elsewhere, as the terminal shows those that train here: from their files, every few seconds."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from openmae.errors import UserError
from openmae.reporter import current, plain
from openmae.reporting.run_files import RunFiles, RunReader
from openmae.reporting.run_finding import find_runs
from openmae.terminal.panel import STYLES, Frame, RunPanel, alarm_text, duration, share_text
from openmae.terminal.sparkline import Sparkline
from openmae.terminal.training_view import thinned

RECENT_LINES = 20


def watch_runs(places: Sequence[str | Path], *, every: float, once: bool) -> list[Frame]:
    """Show runs until all of them have ended, or Ctrl-C; returns what was known of them then.

    Args:
        places: run folders, or folders that hold some.
        every: seconds between two looks.
        once: look once and show nothing: the caller shows the result.

    Raises:
        UserError: when one of them is no run folder.
    """
    watched = [Watched(path) for place in places for path in find_runs(place)]
    if once:
        return [one.frame for one in watched]
    console = current().console
    lively = console.is_terminal and not console.is_dumb_terminal and not console.quiet
    footer = f"every {every:g} s; Ctrl-C ends the watching, and no run"

    def picture() -> Frames:
        return Frames([one.frame for one in watched], footer=footer)

    live = Live(picture(), console=console, screen=True, auto_refresh=False) if lively else None
    try:
        if live is not None:
            live.start(refresh=True)
        told: dict[str, str] = {}
        while any(one.run.state == "running" for one in watched):
            if live is None:
                _tell(console, watched, told)
            time.sleep(every)
            for one in watched:
                one.look()
            if live is not None:
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        pass  # it ends the watching, and no run
    finally:
        if live is not None:
            live.stop()
    return [one.frame for one in watched]


class Watched:
    """A run folder that is looked at again and again."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._reader = RunReader(path)
        self.run = self._reader.read()
        self._trouble = ""

    def look(self) -> None:
        """Read what is new. A folder that cannot be read now is as it was."""
        if self.run.state == "finished":
            return
        try:
            self.run, self._trouble = self._reader.read(), ""
        except UserError as error:
            self._trouble = str(error)

    @property
    def frame(self) -> Frame:
        """What the terminal shows of it."""
        return frame_of(self.run, trouble=self._trouble)


def frame_of(run: RunFiles, *, trouble: str = "") -> Frame:
    """A run's files as the terminal shows a run."""
    steps = run.steps
    epochs, epoch = _number(run.recipe.get("epochs")), steps[-1]["epoch"] if steps else 0.0
    figures = {name: value for line in run.metrics for name, value in line.items()}
    return Frame(
        title=f"{run.stage} {run.recipe.get('name', '')}".strip(),
        place=run.path,
        epochs=epochs,
        epoch=epochs if run.state == "finished" else epoch,
        state=run.state,
        losses=thinned([(line["step"], line["loss"]) for line in steps if "loss" in line]),
        figures=figures,
        seconds_left=_seconds_left(run, epochs) if run.state == "running" else None,
        alarm=alarm_text(run.alarms[-1]) if run.alarms else "",
        ending=trouble or ("" if run.state in ("running", "finished") else run.ending),
        silent=None if run.updated is None else max(0.0, time.time() - run.updated),
    )


def _seconds_left(run: RunFiles, epochs: float) -> float | None:
    """By the speed of the last lines. Nobody outside sees how long evaluations took."""
    lines = [line for line in run.steps[-RECENT_LINES:] if line.get("images_per_second", 0) > 0 and "samples" in line]
    if not lines or lines[-1]["epoch"] <= 0:
        return None
    last = lines[-1]
    images_left = last["samples"] / last["epoch"] * (epochs - last["epoch"])
    return max(0.0, images_left / (sum(line["images_per_second"] for line in lines) / len(lines)))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0


class Frames:
    """Several runs: panels as far as they fit on the terminal, those that are running first, and a line for each other.

    Args:
        frames: of the runs.
        whole: a panel for each, however long that is.
        footer: a last line.
    """

    def __init__(self, frames: Sequence[Frame], *, whole: bool = False, footer: str = "") -> None:
        self._frames, self._whole, self._footer = frames, whole, footer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        panels = {index: RunPanel(frame) for index, frame in enumerate(self._frames)}
        if self._whole or len(panels) == 1:
            yield from panels.values()
        else:
            yield from self._fitting(console, options, panels)
        if self._footer:
            yield Text(self._footer, style="dim", no_wrap=True, overflow="ellipsis")

    def _fitting(
        self, console: Console, options: ConsoleOptions, panels: Mapping[int, RunPanel]
    ) -> Iterator[RenderableType]:
        order = sorted(panels, key=lambda index: self._frames[index].state != "running")
        rows = console.height - bool(self._footer)
        chosen: set[int] = set()
        left = rows - len(panels)
        for index in order:
            more = len(console.render_lines(panels[index], options)) - 1
            if more > left:
                break
            chosen.add(index)
            left -= more
        yield from (panel for index, panel in panels.items() if index in chosen)
        others = [index for index in order if index not in chosen]
        shown = others if len(others) <= rows else others[: rows - 1]
        if shown:
            yield _lines([self._frames[index] for index in shown])
        if len(others) > len(shown):
            yield Text(f"and {len(others) - len(shown):,} more: openmae runs lists all", style="dim")


def _lines(frames: Sequence[Frame]) -> Table:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1)
    for frame in frames:
        state = Text(frame.state or "", style=STYLES.get(frame.state or "running", ""))
        loss = Text(f"{frame.figures['loss']:.4f}" if "loss" in frame.figures else "")
        left = Text(f"{duration(frame.seconds_left)} left" if frame.seconds_left is not None else "")
        place = Text(plain(frame.place), no_wrap=True, overflow="ellipsis")
        curve: RenderableType = Sparkline(frame.losses)
        table.add_row(state, place, Text(share_text(frame.share)), loss, left, curve)
    return table


def _tell(console: Console, watched: Sequence[Watched], told: dict[str, str]) -> None:
    """A line for each run of which there is news, where there is no terminal."""
    for one in watched:
        frame = one.frame
        parts = [frame.place, str(frame.state), frame.progress]
        parts += [f"loss {frame.figures['loss']:.4f}"] if "loss" in frame.figures else []
        parts += [f"{duration(frame.seconds_left)} left"] if frame.seconds_left is not None else []
        parts += [frame.ending] if frame.ending else []
        line = "  ".join(map(plain, parts))
        if told.get(frame.place) != line:
            told[frame.place] = line
            console.print(line, markup=False, highlight=False, soft_wrap=True)
