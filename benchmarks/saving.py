"""The cost of a checkpoint of ViT-B for the training: how much longer the steps take while one is written.

    python benchmarks/saving.py --data photos/

Pre-trains vit-b16-800e for a few dozen steps, with a checkpoint every 24 steps. The time of a step is measured from one
forward pass to the next, so that it includes the copy before the next step, and the writing beside it. The steps during
a write are compared with the steps around them, because a shared machine is not equally fast for half an hour.

Then the same command receives SIGTERM while it trains, and while it writes a checkpoint beside the training. The time
until its process has ended is the rest of a step and the checkpoint.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import openmae
from openmae.recipes import PretrainRecipe
from openmae.recipes.values import Every
from openmae.reporter import Reporter, use
from openmae.training import pretraining
from openmae.training.observers import saving
from openmae.training.observers.checkpointing import Checkpoints
from openmae.training.processes.stopping import STOPPED

EVERY = 24  # steps between two checkpoints; on two busy cores one is written during a third of them
LINES = 3  # of metrics.jsonl, one for each step, after which the command receives SIGTERM
MINUTES = round(PretrainRecipe.save_every.number)  # between two checkpoints, by default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--saves", type=int, default=14, help="0: only the stops")
    parser.add_argument("--stops", type=int, default=5, help="of each kind; 0: only the saves")
    arguments = parser.parse_args()
    if arguments.saves:
        time_saves(arguments)
    for when, every in (("", None), (" while a checkpoint is written", f"{LINES}steps")):
        seconds = [stopped(arguments.data, arguments.batch_size, every) for _ in range(arguments.stops)]
        if seconds:
            print(
                f"from SIGTERM{when} to the end of the process: {statistics.median(seconds):.1f} s "
                f"(median of {len(seconds)}, {min(seconds):.1f} to {max(seconds):.1f})",
                flush=True,
            )


def time_saves(arguments: argparse.Namespace) -> None:
    """Print what checkpoints cost the training while they are written."""
    starts: list[float] = []
    blocked: list[float] = []
    written: list[tuple[float, float]] = []
    make, save, write = pretraining.reconstruction_loss, Checkpoints.save, saving.write_checkpoint

    def timed(recipe: Any, model: Any) -> Any:
        loss = make(recipe, model)

        def note(wrapped: Any, batch: Any) -> Any:
            starts.append(time.perf_counter())
            return loss(wrapped, batch)

        return note

    def timed_save(*words: Any) -> None:
        began = time.perf_counter()
        save(*words)
        blocked.append(time.perf_counter() - began)

    def timed_write(*words: Any, **options: Any) -> Path:
        began = time.perf_counter()
        path = write(*words, **options)
        written.append((began, time.perf_counter()))
        return path

    pretraining.reconstruction_loss = timed
    Checkpoints.save = timed_save  # type: ignore[assignment, method-assign]
    saving.write_checkpoint = timed_write  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        images = sum(1 for _ in Path(arguments.data).rglob("*.*"))
        steps = EVERY * (arguments.saves + 1)
        with use(Reporter(quiet=True)):
            openmae.pretrain(
                "vit-b16-800e",
                data=arguments.data,
                out=folder + "/run",
                batch_size=arguments.batch_size,
                epochs=-(-steps // max(1, images // arguments.batch_size)),
                save_every=Every(EVERY, "steps"),
                log_every=1000,
            )
        size = sum(file.stat().st_size for file in next(Path(folder, "run/checkpoints").glob("step-*")).iterdir())
    steps = list(pairwise(starts))
    usual = statistics.mean(after - before for before, after in steps if not _overlap(before, after, written))
    extra = []
    # The training waits for the first and the last checkpoint, and so for the one before the last.
    for last, writing, following in zip(written, written[1:-2], written[2:], strict=False):
        around = [(before, after) for before, after in steps if last[1] < before and after < following[0]]
        during = [after - before for before, after in around if _overlap(before, after, [writing])]
        quiet = [after - before for before, after in around if not _overlap(before, after, [writing])]
        extra.append(sum(during) - len(during) * statistics.mean(quiet))
        means = statistics.mean(during), statistics.mean(quiet)
        print(f"  {len(during)} steps of {means[0]:.2f} s, {len(quiet)} of {means[1]:.2f} s: {extra[-1]:+.2f} s")
    cost = statistics.mean(extra)
    error = statistics.stdev(extra) / len(extra) ** 0.5
    print(f"{torch.__version__}, {torch.get_num_threads()} threads, batch {arguments.batch_size}")
    print(f"a checkpoint: {size / 1e6:,.0f} MB; a step: {usual:.2f} s (mean)")
    print(f"copied while the training waits: {statistics.median(blocked[1:-1]):.2f} s (median of {len(blocked) - 2})")
    print(f"written beside it: {statistics.median(to - since for since, to in written[1:-1]):.1f} s (median)")
    print(f"a checkpoint in all: {cost:.2f} s (mean of {len(extra)}, standard error {error:.2f} s)")
    print(f"every {MINUTES} minutes: {100 * cost / (60 * MINUTES):.2f} % of the run's time")


def _overlap(before: float, after: float, written: Sequence[tuple[float, float]]) -> bool:
    return any(before < ended and began < after for began, ended in written)


def stopped(data: str, batch_size: int, save_every: str | None = None) -> float:
    """Seconds from SIGTERM, at a random moment of the fourth step or so, to the end of the command that trains."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *("pretrain", "vit-b16-800e", "--data", data, "--out", f"{folder}/run", "--log-every", "1"),
            *("--batch-size", str(batch_size)),
            *(("--save-every", save_every) if save_every else ()),
        ]
        command = [sys.executable, "-m", "openmae.cli", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            metrics = Path(folder, "run/metrics.jsonl")
            while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < LINES):
                time.sleep(0.05)
            last = json.loads(metrics.read_text().splitlines()[-1])
            time.sleep(random.uniform(0, batch_size / last["images_per_second"]))
            process.send_signal(signal.SIGTERM)
            asked = time.perf_counter()
            _, said = process.communicate()
            taken = time.perf_counter() - asked
        if process.returncode != STOPPED:
            raise RuntimeError(f"it ended with {process.returncode}: {said[-500:]}")
        return taken


if __name__ == "__main__":
    main()
