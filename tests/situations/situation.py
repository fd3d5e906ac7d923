"""What one situation is."""

from collections.abc import Callable
from typing import NamedTuple

from tests.situations.shell import Shell


class Situation(NamedTuple):
    """A data set or a habit that people have, and what happens.

    Args:
        what: the data and the command, for the table in docs/data.md.
        happens: the outcome, likewise.
        check: makes the data, runs the commands, and asserts the outcome.
    """

    what: str
    happens: str
    check: Callable[[Shell], None]
