"""The rules over the lines of a run, by what they are about."""

from collections.abc import Mapping, Sequence

from openmae.training.alarms.alarm import Alarm, Facts, Kind, Line, Rule
from openmae.training.alarms.curves import gradient, leak, spike, stuck
from openmae.training.alarms.loading import starved
from openmae.training.alarms.quality import overfitting, rank, settled
from openmae.training.alarms.standing import Standing
from openmae.training.runs import MOST_LINES

RULES: Mapping[Kind, Rule] = {
    "stuck": stuck,
    "leak": leak,
    "spike": spike,
    "gradient": gradient,
    "starved": starved,
    "overfitting": overfitting,
    "rank": rank,
    "settled": settled,
}


def alarms_over(lines: Sequence[Line], facts: Facts) -> list[Alarm]:
    """All that is said in the course of a run with these lines."""
    standing, said = Standing(), []
    for end, line in enumerate(lines, start=1):
        said += standing.news(round(line["step"]), judge(lines[max(0, end - MOST_LINES) : end], facts))
    return said


def judge(lines: Sequence[Line], facts: Facts) -> dict[Kind, str | None]:
    """The message of each rule after the last of these lines; None where all is well."""
    return {kind: rule(lines, facts) for kind, rule in RULES.items()}
