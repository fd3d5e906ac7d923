"""Files of JSON lines that grow while they are read: only what is new is read."""

import json
from collections.abc import Mapping
from typing import Any

from openmae.reporting.run_places import FileFacts, RunPlace

MOST_OF_LINES = 32 << 20


class GrowingFile:
    """The JSON lines of a file that grows at its end, and that is written anew when a run goes back to a checkpoint."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._facts: FileFacts | None = None
        self._records: list[dict[str, Any]] = []
        self._end = 0
        self._last_line = b""

    def read(self, place: RunPlace, files: Mapping[str, FileFacts]) -> list[dict[str, Any]]:
        """All complete lines, the last MOST_OF_LINES bytes of them."""
        facts = files.get(self._name)
        if facts is None:
            self._records, self._end, self._last_line = [], 0, b""
        elif facts != self._facts or facts.changed is None:
            # If the line that was the last one is still where it was, only what follows it is new.
            start = self._end - len(self._last_line)
            data = place.read(self._name, start=start, end=facts.size) if self._last_line else b""
            if data.startswith(self._last_line) and self._last_line:
                self._add(data[len(self._last_line) :])
            else:
                start = max(0, facts.size - MOST_OF_LINES)
                self._records, self._end, self._last_line = [], start, b""
                self._add(place.read(self._name, start=start, end=facts.size))
        self._facts = facts
        return self._records

    def _add(self, data: bytes) -> None:
        complete = data[: data.rfind(b"\n") + 1]
        lines = complete.splitlines(keepends=True)
        self._records = self._records + [
            record for line in lines if (record := json_object(line.decode("utf-8", errors="replace"))) is not None
        ]
        self._end += len(complete)
        self._last_line = lines[-1] if lines else self._last_line


def json_object(text: str) -> dict[str, Any] | None:
    """The object that a text is; None when it is none, or is cut short."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
