"""Every kind of broken, hostile or unusual file that the tests make, and the outcome that each must have."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.data.decoding import zoo_damaged, zoo_hostile, zoo_unusual
from tests.data.decoding.zoo_kinds import Kind

ZOO: Sequence[Kind] = (*zoo_unusual.KINDS, *zoo_damaged.KINDS, *zoo_hostile.KINDS)


class Specimen(NamedTuple):
    """One file, and the kind it belongs to."""

    path: Path
    kind: Kind


def build(folder: Path, kinds: Sequence[Kind] = ZOO) -> list[Specimen]:
    """Put the files of these kinds into a folder, those that are possible on this machine."""
    specimens = []
    for number, kind in enumerate(kinds):
        for copy, data in enumerate(kind.make()) if kind.possible else ():
            name = os.fsdecode(kind.file) if kind.file else f"{number:03}-{copy:02}.{kind.ending}"
            kind.place(folder / name, data)
            specimens.append(Specimen(folder / name, kind))
    return specimens


def table() -> str:
    """The rows of the table in docs/data.md."""
    return "".join(f"| {kind.name} | {kind.outcome} |\n" for kind in ZOO)
