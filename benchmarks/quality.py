"""The share of a run's time that live quality takes.

    python benchmarks/quality.py --cifar10 cifar10/ [--steps 120]

Begins to pre-train by the recipes fashion-mnist and cifar10, exactly as they are, and measures quality several times
within the first steps. From the CPU time of a step (the median), of the first measurement (which also chooses and reads
its images, and computes the trivial predictors) and of the others (the mean) follows the share of the whole run, at the
interval that the run itself chooses. CPU time, because a shared machine is not equally fast all the time.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from openmae.evaluation.quality.observing import Quality
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.reporter import Reporter, use
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.pretraining import Pretraining, run_pretraining
from openmae.training.state import TrainState

MEASUREMENTS = 4


class Enough(Exception):
    """The steps that were wanted have been made."""


class Timed(Observer):
    """Measures quality in regular steps, and prints what it costs once there are enough."""

    def __init__(self, training: Pretraining, steps: int) -> None:
        self._training, self._wanted = training, steps
        self._quality = Quality(training)
        self._steps, self._measurements = list[float](), list[float]()
        self._began = time.process_time()

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:  # noqa: ARG002  # as it is called
        ended = time.process_time()
        self._steps.append(ended - self._began)
        if state.step % (self._wanted // MEASUREMENTS) == 0:
            self._quality._measure(state)
            self._measurements.append(time.process_time() - ended)
        if state.step == self._wanted:
            self.print_share(state)
            raise Enough
        self._began = time.process_time()

    def print_share(self, state: TrainState) -> None:
        recipe, schedule = self._training.recipe, state.schedule
        every = self._quality._epochs_between(state)
        several = -(-recipe.epochs // every)
        first, others = self._measurements[0], statistics.mean(self._measurements[1:])
        spent = first + (several - 1) * others
        step = statistics.median(self._steps)
        run = spent + step * schedule.total_steps
        print(
            f"{recipe.name}: {recipe.epochs} epochs of {schedule.steps_per_epoch * recipe.batch_size:,} images, a step "
            f"{1000 * step:.0f} ms; quality every {every} epochs, {several} times: the first {first:.2f} s, others "
            f"{others:.2f} s; {100 * spent / run:.2f} % of {run:,.0f} s of CPU time",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", help="a folder with train.parquet and test.parquet; left out when not given")
    parser.add_argument("--steps", type=int, default=120)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, data in (("fashion-mnist", "fashion-mnist"), ("cifar10", arguments.cifar10)):
        if data is not None:
            recipe = find_recipe(name, "pretrain")
            assert isinstance(recipe, PretrainRecipe)
            begin(replace(recipe, data=data, workers=0), arguments.steps)


def begin(recipe: PretrainRecipe, steps: int) -> None:
    """Train for so many steps."""
    with tempfile.TemporaryDirectory() as folder, use(Reporter(quiet=True)), contextlib.suppress(Enough):
        run_pretraining(recipe, Path(folder, "run"), observers=[lambda training: Timed(training, steps)])


if __name__ == "__main__":
    main()
