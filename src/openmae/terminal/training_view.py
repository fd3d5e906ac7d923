"""The view of the training that this process makes: a live panel on a terminal, a line now and then elsewhere."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

from openmae.reporter import SECONDS_BETWEEN_LINES, current
from openmae.terminal.panel import MUCH_WAITING, Frame, RunPanel, duration, test_text
from openmae.terminal.sparkline import Point

FRAMES_PER_SECOND = 2
MOST_POINTS = 4096
STOPPING = "asked to stop: this step is finished and everything saved first; Ctrl-C again stops at once"


@dataclass
class Drawn:
    """The picture that stands on the terminal: the `width` of that, and of each line."""

    width: int = 0
    lines: list[int] = field(default_factory=list)


class Steady:
    """A renderable for `Live` that survives a change of the terminal's width, and what is typed meanwhile.

    A terminal that becomes narrower breaks the lines that stand there, and `Live` knows nothing of the new rows: they
    would stay for ever. The cursor rests on an empty line: what the terminal echoes there, such as ^C, breaks nothing.

    Args:
        content: what to show.
        drawn: what was shown before, which is replaced.
    """

    def __init__(self, content: RenderableType, drawn: Drawn) -> None:
        self._content, self._drawn = content, drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if 0 < options.max_width < self._drawn.width:
            rows = sum(max(1, math.ceil(cells / options.max_width)) for cells in self._drawn.lines)
            up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
            yield Control(*up * (rows - len(self._drawn.lines)))
        lines = console.render_lines(self._content, options, pad=False)
        self._drawn.width = options.max_width
        self._drawn.lines = [Segment.get_line_length(line) for line in lines]
        for line in lines:
            yield from line
            yield Segment.line()
        yield Segment("")


class TrainingView:
    """Shows a training to whoever runs it, within its block. It is told of every step and of every line that is logged.

    Args:
        stage: of the recipe.
        name: of the recipe.
        place: the run folder.
        epochs: of the whole run.
        steps_per_epoch: how many steps make one of them.
        stopping: whether the training has been asked to stop.
    """

    def __init__(
        self,
        *,
        stage: str,
        name: str,
        place: str,
        epochs: int,
        steps_per_epoch: int,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._console = current().console
        self._stage, self._name, self._place = stage, name, place
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._stopping = stopping
        self._drawn = Drawn()
        self._step = 0
        self._losses: list[Point] = []
        self._figures: dict[str, float] = {}
        self._alarm = ""
        self._times: list[tuple[float, int]] = []
        self._last_line = time.monotonic()
        shows = self._console.is_terminal and not self._console.is_dumb_terminal and not self._console.quiet
        self._live = (
            Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=FRAMES_PER_SECOND,
                transient=True,
            )
            if shows
            else None
        )

    def __enter__(self) -> "TrainingView":
        if self._live is not None:
            self._live.start()
        return self

    def restart(self, step: int, lines: Sequence[Mapping[str, float]], alarm: str = "") -> None:
        """Go on from this step, with the lines that are logged already, the last alarm among them."""
        self._losses = thinned([(line["step"], line["loss"]) for line in lines if "loss" in line and "step" in line])
        self._figures = {name: value for line in lines for name, value in line.items()}
        self._alarm = alarm
        self._step = step
        self._times = [(time.monotonic(), step)]

    def moved(self, step: int) -> None:
        """A step has been made."""
        self._step = step

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A line of figures has been logged."""
        self._figures = {**self._figures, **values}
        if "loss" in values:
            self._losses = thinned([*self._losses, (step, values["loss"])])
            if len(self._times) > MOST_POINTS:
                del self._times[1::2]
            self._times.append((time.monotonic(), step))
        if self._live is None and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(self._line(), markup=False, highlight=False, soft_wrap=True)

    def alarmed(self, text: str) -> None:
        """An alarm has been raised, and said; the text is that of `alarm_text`."""
        self._alarm = text

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def frame(self) -> Frame:
        """What is known now."""
        return Frame(
            title=f"{self._stage} {self._name}",
            place=self._place,
            epochs=self._epochs,
            epoch=self._step / self._steps_per_epoch,
            losses=self._losses,
            figures=self._figures,
            seconds_left=self._seconds_left(),
            alarm=self._alarm,
            ending=STOPPING if self._stopping() else "",
        )

    def _render(self) -> RenderableType:
        return Steady(RunPanel(self.frame), self._drawn)

    def _seconds_left(self) -> float | None:
        """By the newer half of what this process has done: the first steps are slow, and evaluations count."""
        if len(self._times) < 2:
            return None
        now, done = self._times[-1]
        then, before = self._times[(len(self._times) - 1) // 2]
        if done <= before:
            return None
        left = self._epochs * self._steps_per_epoch - self._step
        return max(0.0, (now - then) / (done - before) * left)

    def _line(self) -> str:
        frame = self.frame
        figures = frame.figures
        parts = [f"{self._stage} {frame.progress}", f"loss {figures.get('loss', math.nan):.4f}"]
        if "images_per_second" in figures:
            parts.append(f"{figures['images_per_second']:,.0f} images/s")
        if figures.get("waiting_for_data", 0.0) >= MUCH_WAITING:
            parts.append(f"{100 * figures['waiting_for_data']:.0f}% waiting for data")
        if test := test_text(figures):
            parts.append(test.plain)
        if frame.seconds_left is not None:
            parts.append(f"{duration(frame.seconds_left)} left")
        return "  ".join(parts)


def thinned(points: list[Point]) -> list[Point]:
    """The same curve with at most MOST_POINTS points: means of two where there are more."""
    while len(points) > MOST_POINTS:
        odd = points[len(points) // 2 * 2 :]
        pairs = zip(points[::2], points[1::2], strict=False)
        points = [((one[0] + two[0]) / 2, (one[1] + two[1]) / 2) for one, two in pairs] + odd
    return points
