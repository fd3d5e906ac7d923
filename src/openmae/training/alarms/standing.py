"""Which alarms stand: each is said once, and again only after a while in which all was well."""

from collections.abc import Iterable, Mapping

from openmae.training.alarms.alarm import Alarm, Kind

# So many lines without it end an alarm: as many as the rules look back over where lines are ten steps apart. Each time
# it comes back twice as many are needed: one that comes and goes is said a handful of times in a long run.
LINES_TO_CLEAR = 30


class Standing:
    """The alarms of one run that have been said.

    Args:
        said: what was said before, when the run continues: it stands still.
    """

    def __init__(self, said: Iterable[Kind] = ()) -> None:
        self._times: dict[Kind, int] = {}
        self._clear: dict[Kind, int] = {}
        for kind in said:
            self._times[kind] = self._times.get(kind, 0) + 1
            self._clear[kind] = 0

    def news(self, step: int, messages: Mapping[Kind, str | None]) -> list[Alarm]:
        """Of what the rules say after one line, what is to be said: that which does not stand yet."""
        raised = []
        for kind, message in messages.items():
            if message is None:
                self._clear[kind] = self._clear.get(kind, 0) + 1
                continue
            times = self._times.get(kind, 0)
            if times == 0 or self._clear.get(kind, 0) >= LINES_TO_CLEAR * 2 ** (times - 1):
                raised.append(Alarm(step, kind, message))
                self._times[kind] = times + 1
            self._clear[kind] = 0
        return raised
