"""The rules over the lines of a run, by what they are about."""

from collections.abc import Iterable, Mapping

from openmae.training.alarms.alarm import Alarm, Facts, History, Kind, Line, Rule
from openmae.training.alarms.curves import gradient, leak, spike, stuck
from openmae.training.alarms.loading import starved
from openmae.training.alarms.quality import overfitting, rank, settled
from openmae.training.alarms.standing import Standing

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


def alarms_over(lines: Iterable[Line], facts: Facts) -> list[Alarm]:
    """All that is said in the course of a run with these lines."""
    history, standing, said = History(), Standing(), []
    for line in lines:
        history.add(line)
        said += standing.news(round(line["step"]), judge(history, facts))
    return said


def judge(history: History, facts: Facts) -> dict[Kind, str | None]:
    """The message of each rule after the last line; None where all is well."""
    return {kind: rule(history, facts) for kind, rule in RULES.items()}
