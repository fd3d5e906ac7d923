"""The run folders below a folder."""

from pathlib import Path

from openmae.checkpoints.names import CHECKPOINTS, RECIPE, SAMPLES
from openmae.errors import UserError
from openmae.reporting.run_places import RunPlace

DEPTH = 4
MOST_FOLDERS = 10_000
# What a run folder holds, and no runs are in.
PARTS = {CHECKPOINTS, "tensorboard", SAMPLES, "wandb", "mlruns"}


def find_runs(folder: str | Path) -> list[str]:
    """The run folders in a folder, itself among them, at most four folders deep and in the order of their names.

    Raises:
        UserError: when the folder cannot be read, or holds no run.
    """
    waiting, found = [(str(folder), 0)], list[str]()
    for _ in range(MOST_FOLDERS):
        if not waiting:
            break
        place, depth = waiting.pop()
        try:
            files = RunPlace(place).files()
        except UserError:
            if depth == 0:
                raise
            continue  # a folder of somebody else
        if RECIPE in files:
            found.append(place)
        if depth < DEPTH:
            below = [name for name, facts in files.items() if facts.is_folder and not name.startswith(".")]
            names = sorted(set(below) - PARTS, reverse=True)  # the last of them is the next
            waiting += [(f"{place.rstrip('/')}/{name}", depth + 1) for name in names]
    if not found:
        raise UserError(f"{folder} holds no runs; give the folder of a run, or one that has some in it, such as runs")
    return found
