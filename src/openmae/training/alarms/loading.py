"""The alarm about a training that waits for its images."""

import math
from statistics import median

from openmae.training.alarms.alarm import Facts, History, Line

# Healthy runs wait 1 % of their time, and up to 12 % on a machine that is busy with other work. More workers can win
# back what is waited: below this share that is not worth an interruption.
WAITING = 0.25
# The first line has the start of the workers in it; the median of five ignores a burst of the disk.
LINES = 5
# Over the whole run, in seconds. Demos and trials of seconds have no use for the advice.
LOST = 60.0


def starved(history: History, facts: Facts) -> str | None:
    """The training waits for images."""
    timed = [line for line in history.series("waiting_for_data", LINES) if not _decodes_once(line, facts)]
    if len(timed) < LINES:
        return None
    waiting = median([line["waiting_for_data"] for line in timed])
    seconds = facts.total_steps * facts.batch_size / max(1e-9, median([line["images_per_second"] for line in timed]))
    if waiting < WAITING or waiting * seconds < LOST:
        return None
    return f"training waits for images {100 * waiting:.0f} % of the time; {_remedy(waiting, facts)}"


def _remedy(waiting: float, facts: Facts) -> str:
    # What is left of a step is computing. Workers that decode as fast as that hide all of the rest; without any, the
    # process itself decodes while it waits, and computes in the rest.
    decoding = facts.workers if facts.workers else waiting
    needed = max(facts.workers + 1, math.ceil(round(decoding / max(0.01, 1 - waiting), 6)))
    if needed <= facts.spare_processors:
        return f"use --workers {needed} (now {facts.workers})"
    pack = "prepare the images once with openmae pack, which makes decoding cheaper"
    if facts.spare_processors > facts.workers:
        return f"use --workers {facts.spare_processors} (now {facts.workers}; {needed} would be needed), and {pack}"
    return f"{pack} ({needed} workers would be needed, and {facts.spare_processors} fit on this machine)"


def _decodes_once(line: Line, facts: Facts) -> bool:
    """Whether this line is of the one epoch in which images that stay in memory are decoded."""
    return facts.held and line["epoch"] <= 1
