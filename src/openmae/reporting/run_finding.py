"""The run folders below a folder."""

from collections.abc import Iterator
from pathlib import Path

from openmae.checkpoints.names import CHECKPOINTS, RECIPE
from openmae.errors import UserError
from openmae.reporting.run_places import RunPlace

DEPTH = 4
MOST_FOLDERS = 10_000
# What a run folder holds, and no runs are in.
PARTS = {CHECKPOINTS, "tensorboard", "samples", "wandb", "mlruns"}


def find_runs(folder: str | Path) -> list[str]:
    """The run folders in a folder, itself among them, at most four folders deep and in the order of their names.

    Raises:
        UserError: when the folder cannot be read, or holds no run.
    """
    found = list(_below(str(folder), DEPTH, [MOST_FOLDERS]))
    if not found:
        raise UserError(f"{folder} holds no runs; give the folder of a run, or one that has some in it, such as runs")
    return found


def _below(folder: str, depth: int, left: list[int]) -> Iterator[str]:
    left[0] -= 1
    files = RunPlace(folder).files()
    if RECIPE in files:
        yield folder
    if depth == 0:
        return
    for name in sorted(name for name, facts in files.items() if facts.is_folder):
        if name in PARTS or name.startswith(".") or left[0] <= 0:
            continue
        try:
            yield from _below(f"{folder.rstrip('/')}/{name}", depth - 1, left)
        except UserError:  # a folder of somebody else
            continue
