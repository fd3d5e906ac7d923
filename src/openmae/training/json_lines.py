"""Files of JSON lines that a run adds to: no full disk, power cut or half line in them spoils the other lines."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openmae.files import sync_file, write_text

Record = dict[str, Any]


class JsonLines:
    """One such file.

    Args:
        file: where it is, once there is a line.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._unwritten: list[Record] = []
        self._begins = ""

    def append(self, record: Record) -> None:
        """Add one line; one that a full disk refuses is written with a later one."""
        self._unwritten.append(record)
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(self._begins + _lines(self._unwritten))
        except OSError:
            self._begins = "\n"  # half a line may be there
        else:
            self._unwritten, self._begins = [], ""

    def records(self) -> list[Record]:
        """The complete lines, and those that a full disk has refused; none when there is no such file."""
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return [*(record for line in lines if (record := _parse(line)) is not None), *self._unwritten]

    def replace(self, records: Sequence[Record]) -> None:
        """Have these lines and no other."""
        if records or self._file.exists():
            write_text(self._file, _lines(records))
        self._unwritten, self._begins = [], ""

    def sync(self) -> None:
        """Make the lines so far survive a power cut."""
        with contextlib.suppress(FileNotFoundError):
            sync_file(self._file)


def _lines(records: Sequence[Record]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _parse(line: str) -> Record | None:
    """The record of one line; None for a line that a crash cut short."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
