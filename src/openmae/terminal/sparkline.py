"""A curve in one line of text."""

import math
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"
NOT_FINITE = "!"
# The first steps of a loss are far above all others, which would be one flat line on the same scale.
CUT_SHARE = 0.1

Point = tuple[float, float]
"""A step, and the figure that was logged after it."""


def sparkline(points: Sequence[Point], width: int, *, levels: str = BLOCKS) -> str:
    """The means of `width` equal parts of the steps, each as a sign between the lowest and the highest.

    The highest tenth of the parts is cut off. A part without any point repeats the one before it.

    >>> sparkline([(1, 8.0), (2, 3.0), (3, 2.0), (4, 1.0)], 4)
    '█▃▂▁'
    """
    means = _means(points, width)
    finite = sorted(mean for mean in means if math.isfinite(mean))
    if not finite:
        return NOT_FINITE * len(means)
    low, high = finite[0], finite[len(finite) - 1 - int(len(finite) * CUT_SHARE)]
    return "".join(_sign(mean, low, high, levels) for mean in means)


def _means(points: Sequence[Point], width: int) -> list[float]:
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    width = min(width, len(points))
    parts: list[list[float]] = [[] for _ in range(width)]
    for step, value in points:
        share = (step - first) / (last - first) if last > first else 0.0
        parts[min(width - 1, max(0, int(share * width)))].append(value)
    means: list[float] = []
    for part in parts:
        means.append(math.fsum(part) / len(part) if part and all(map(math.isfinite, part)) else _gap(part, means))
    return means


def _gap(part: Sequence[float], means: Sequence[float]) -> float:
    return math.nan if part or not means else means[-1]


def _sign(mean: float, low: float, high: float, levels: str) -> str:
    if not math.isfinite(mean):
        return NOT_FINITE
    if high <= low:
        return levels[0]
    return levels[min(len(levels) - 1, int((mean - low) / (high - low) * len(levels)))]


class Sparkline:
    """A curve that takes the width that it is given."""

    def __init__(self, points: Sequence[Point], *, style: str = "cyan") -> None:
        self._points, self._style = points, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        levels = ASCII if options.ascii_only else BLOCKS
        yield Text(sparkline(self._points, options.max_width, levels=levels), style=self._style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)
