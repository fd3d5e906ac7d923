"""What a checkpoint of ViT-B costs the training: the time that the steps after a save take longer than the others.

    python benchmarks/saving.py --data photos/

Pre-trains vit-b16-800e for a few dozen steps with a checkpoint every so often. A step's time is that from one forward
pass to the next, so that copying (before the next step) and the writing beside the next steps are both in it.

Then the same command is asked to stop with SIGTERM while it trains, and the time is taken until it has ended: the rest
of a step, the checkpoint, and its verification.
"""

import argparse
import random
import signal
import statistics
import subprocess
import sys
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
from openmae.training.stopping import STOPPED

EVERY = 12  # steps between two checkpoints
AFFECTED = 6  # steps after a checkpoint within which it is written; the rest of them are what a step takes otherwise
MINUTES = 5  # the default of --save-every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--stops", type=int, default=3)
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
    if arguments.stops:
        seconds = [stopped(arguments.data, arguments.batch_size, usual) for _ in range(arguments.stops)]
        print(
            f"from SIGTERM to the end of the process: {statistics.median(seconds):.1f} s (median of {len(seconds)}, "
            f"{min(seconds):.1f} to {max(seconds):.1f})"
        )


def stopped(data: str, batch_size: int, step: float) -> float:
    """Seconds from SIGTERM, at a random moment of a step, to the end of the command that trains."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *("pretrain", "vit-b16-800e", "--data", data, "--out", f"{folder}/run", "--log-every", "1"),
            *("--batch-size", str(batch_size)),
        ]
        command = [sys.executable, "-m", "openmae.cli", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            metrics = Path(folder, "run/metrics.jsonl")
            while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < 3):
                time.sleep(0.05)
            time.sleep(random.uniform(0, step))
            process.send_signal(signal.SIGTERM)
            asked = time.perf_counter()
            _, said = process.communicate()
            taken = time.perf_counter() - asked
        if process.returncode != STOPPED:
            raise RuntimeError(f"it ended with {process.returncode}: {said[-500:]}")
        return taken


if __name__ == "__main__":
    main()
