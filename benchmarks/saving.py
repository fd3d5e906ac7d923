"""What a checkpoint of ViT-B costs the training: the time that the steps after a save take longer than the others.

    python benchmarks/saving.py --data photos/

Pre-trains vit-b16-800e for a few dozen steps with a checkpoint every so often. A step's time is that from one forward
pass to the next, so that copying (before the next step) and the writing beside the next steps are both in it.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import openmae
from openmae.recipes.recipe import Every
from openmae.training import loop, pretraining, session

EVERY = 12  # steps between two checkpoints
AFFECTED = 6  # steps after a checkpoint within which it is written; the rest of them are what a step takes otherwise
MINUTES = 5  # the default of --save-every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--saves", type=int, default=5)
    arguments = parser.parse_args()
    starts: list[float] = []
    blocked: list[float] = []
    make, save = pretraining.reconstruction_loss, session.save

    def timed(recipe: Any, model: Any) -> Any:
        loss = make(recipe, model)

        def note(wrapped: Any, batch: Any) -> Any:
            starts.append(time.perf_counter())
            return loss(wrapped, batch)

        return note

    def timed_save(*words: Any, **options: Any) -> None:
        began = time.perf_counter()
        save(*words, **options)
        blocked.append(time.perf_counter() - began)

    pretraining.reconstruction_loss = timed
    loop.save = timed_save  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        images = sum(1 for _ in Path(arguments.data).rglob("*.*"))
        steps = EVERY * arguments.saves + AFFECTED
        openmae.pretrain(
            "vit-b16-800e",
            data=arguments.data,
            out=folder + "/run",
            batch_size=arguments.batch_size,
            epochs=-(-steps // max(1, images // arguments.batch_size)),
            save_every=Every(EVERY, "steps"),
            log_every=1000,
            console=Console(quiet=True),
        )
        size = sum(file.stat().st_size for file in next(Path(folder, "run/checkpoints").glob("step-*")).iterdir())
    durations = [after - before for before, after in pairwise(starts)]
    places = range(EVERY - 1, len(durations) - AFFECTED, EVERY)
    usual = statistics.median(
        duration
        for place, duration in enumerate(durations)
        if place >= EVERY and (place - EVERY + 1) % EVERY >= AFFECTED
    )
    extra = [sum(durations[place : place + AFFECTED]) - AFFECTED * usual for place in places]
    cost = statistics.median(extra)
    print(f"{torch.__version__}, {torch.get_num_threads()} threads, batch {arguments.batch_size}")
    print(f"a checkpoint: {size / 1e6:,.0f} MB; a step: {usual:.2f} s (median)")
    print(f"copied while the training waits: {statistics.median(blocked[1:-1]):.2f} s (median of {len(blocked) - 2})")
    print(f"a checkpoint in all: {cost:.2f} s (median of {len(extra)}, {min(extra):.2f} to {max(extra):.2f})")
    print(f"every {MINUTES} minutes: {100 * cost / (60 * MINUTES):.2f} % of the run's time")


if __name__ == "__main__":
    main()
