"""One run as a panel on a terminal, or as a line of a list of runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeAlias

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from openmae.reporter import plain
from openmae.terminal.sparkline import Point, Sparkline

State: TypeAlias = Literal["running", "stopped", "crashed", "finished"]

STYLES: dict[State, str] = {"running": "green", "stopped": "yellow", "crashed": "red", "finished": "blue"}
LABEL_WIDTH = len("held out")
MOST_OF_MESSAGE = 240
# A share of waiting from which on the images, rather than the network, decide the speed.
MUCH_WAITING = 0.2
SAME = 0.005
# Seconds without any news of a run that is said to be running.
LONG_SILENCE = 120.0
TRIVIAL = {
    "quality/own_mean": "own mean",
    "quality/nearest": "nearest",
    "quality/smooth": "smooth",
    "quality/constant": "constant",
}
"""The predictors that need no training, on the same patches."""
PER_CENT = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "mean_average_precision": "mean average precision",
}
PLAIN_FIGURES = {"r2": "R²", "mean_absolute_error": "mean absolute error"}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is shown of a run at one moment.

    Args:
        title: such as "pretrain fashion-mnist".
        place: its folder.
        epochs: of the whole run.
        epoch: how many are done.
        state: of the run; None where nobody asks, because it is this process.
        losses: the curve of the training loss.
        figures: the newest of each figure of metrics.jsonl.
        seconds_left: None while nobody knows.
        alarm: the last one, as `alarm_text` writes it; "" without any.
        ending: why the run ended early; "" when it did not.
        silent: for how many seconds nothing was heard of it; None for the training of this process.
    """

    title: str
    place: str
    epochs: float
    epoch: float
    state: State | None = None
    losses: Sequence[Point] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    alarm: str = ""
    ending: str = ""
    silent: float | None = None

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return min(1.0, max(0.0, self.epoch / self.epochs)) if self.epochs > 0 else 0.0

    @property
    def progress(self) -> str:
        """Such as "epoch 3/100"."""
        under_way = min(self.epochs, math.floor(self.epoch) + 1) if self.epoch < self.epochs else self.epochs
        return f"epoch {under_way:.0f}/{self.epochs:.0f}"


class RunPanel:
    """A run with everything that is known of it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = self._frame
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(width=LABEL_WIDTH, style="dim")
        table.add_column(ratio=1)
        for label, content in _rows(frame):
            table.add_row(label, content)
        title = Text()
        if frame.state is not None:
            title.append(f"{frame.state} ", style=f"bold {STYLES[frame.state]}")
        title.append(plain(frame.place), style="bold")
        title.append(f"  {plain(frame.title)}", style="not bold")
        title.truncate(max(1, options.max_width - 6), overflow="ellipsis")
        yield Panel(
            table,
            title=title,
            title_align="left",
            border_style="dim" if frame.state in (None, "running", "finished") else STYLES[frame.state],
            box=ROUNDED,
        )


def _rows(frame: Frame) -> Iterator[tuple[str, RenderableType]]:
    figures = frame.figures
    yield "progress", _beside(Text(frame.progress), _bar(frame), Text(f"{share_text(frame.share)}{_left(frame)}"))
    if "loss" in figures:
        yield "loss", _beside(Text(f"{figures['loss']:.4f}", style="bold"), Sparkline(frame.losses))
    if frame.state == "running" and (frame.silent or 0.0) >= LONG_SILENCE:
        yield "silent", Text(f"no file has changed for {duration(frame.silent or 0.0)}", style="yellow")
    if speed := speed_text(figures):
        yield "speed", speed
    if test := test_text(figures):
        yield "test", test
    if "quality/loss" in figures:
        yield "held out" if figures.get("quality/held_out", 1.0) else "sample", held_out_text(figures)
    if features := features_text(figures):
        yield "features", features
    if labels := labels_text(figures):
        yield "accuracy", labels
    if frame.alarm:
        yield "alarm", Text(_short(frame.alarm), style="yellow")
    if frame.ending:
        yield (
            "stopping" if frame.state is None else "ended",
            Text(_short(frame.ending), style="red" if frame.state == "crashed" else "yellow"),
        )


def _beside(first: RenderableType, stretched: RenderableType, *last: RenderableType) -> Table:
    row = Table.grid(expand=True, padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    for _ in last:
        row.add_column(no_wrap=True, justify="right")
    row.add_row(first, stretched, *last)
    return row


def _bar(frame: Frame) -> ProgressBar:
    return ProgressBar(total=1.0, completed=frame.share, complete_style="cyan", finished_style="green")


def _left(frame: Frame) -> str:
    if frame.seconds_left is None or frame.state not in (None, "running"):
        return ""
    return f"  {duration(frame.seconds_left)} left"


def alarm_text(record: Mapping[str, object]) -> str:
    """A line of alarms.jsonl in a sentence."""
    step = record.get("step")
    return f"step {step:,}: {record.get('message')}" if isinstance(step, int) else str(record.get("message"))


def speed_text(figures: Mapping[str, float]) -> Text:
    """Images a second, waiting, and the learning rate, as far as they are known."""
    text = Text()
    if "images_per_second" in figures:
        text.append(f"{figures['images_per_second']:,.0f} images/s")
    if "waiting_for_data" in figures:
        waiting = figures["waiting_for_data"]
        text.append("  ")
        text.append(f"{share_text(waiting)} waiting for data", style="yellow" if waiting >= MUCH_WAITING else "")
    if "lr" in figures:
        text.append(f"  learning rate {figures['lr']:.2g}", style="dim")
    return text


def test_text(figures: Mapping[str, float]) -> Text:
    """Figures of an evaluation on the test split."""
    found = [f"{name} {figures[key]:.2f}%" for key, name in PER_CENT.items() if key in figures]
    found += [f"{name} {figures[key]:.4g}" for key, name in PLAIN_FIGURES.items() if key in figures]
    return Text("  ".join(found))


def held_out_text(figures: Mapping[str, float]) -> Text:
    """The loss on fixed images with fixed masks, beside those of the trivial predictors."""
    loss = figures["quality/loss"]
    trivial = {name: figures[key] for key, name in TRIVIAL.items() if key in figures}
    if abs(trivial.get("constant", math.nan) - trivial.get("own mean", math.nan)) < SAME:
        del trivial["constant"]  # of normalised targets they are the same, and the line is short
    worse = trivial and not loss < min(trivial.values())
    text = Text.assemble((f"{loss:.4f}", "bold yellow" if worse else "bold"))
    if trivial:
        text.append("  trivial: " + ", ".join(f"{name} {_rounded(value)}" for name, value in trivial.items()))
    return text


def features_text(figures: Mapping[str, float]) -> Text:
    """The state of the features without any labels."""
    found = []
    if "quality/rank" in figures:
        found.append(f"rank {figures['quality/rank']:.1f}")
    if "quality/deviation" in figures:
        found.append(f"deviation {figures['quality/deviation']:.2g}")
    if "quality/dead" in figures:
        found.append(f"{share_text(figures['quality/dead'])} of the channels dead")
    return Text("  ".join(found))


def labels_text(figures: Mapping[str, float]) -> Text:
    """Accuracies on frozen features, where there are labels."""
    names = {"quality/knn": "kNN", "quality/probe": "linear probe"}
    return Text("  ".join(f"{name} {figures[key]:.1f}%" for key, name in names.items() if key in figures))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, and days before them: "3 days, 0:12:34"."""
    return str(timedelta(seconds=round(seconds))) if 0 <= seconds < 1e9 else "for ever"


def share_text(share: float) -> str:
    return f"{100 * share:.0f}%"


def _rounded(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _short(message: str) -> str:
    message = plain(message)
    return message if len(message) <= MOST_OF_MESSAGE else f"{message[: MOST_OF_MESSAGE - 1]}…"
