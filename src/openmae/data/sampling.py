"""Which images make up which batch: a function of the seed and the step.

Workers, ranks, prefetching and restarts change which process computes a sample, never the sample.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from openmae.data.randomness import Stream, random_stream
from openmae.errors import UserError


def epoch_order(images: int, *, seed: int, epoch: int, reshuffled: Sequence[int] = ()) -> NDArray[np.int64]:
    """The order of the images in one epoch: a permutation of 0 … images-1.

    `reshuffled` are positions in the whole run (epoch * images + position in the epoch). From each of them on, the
    images come in another order; every image still comes once in an epoch.
    """
    start = epoch * images
    before = bisect.bisect_right(reshuffled, start)
    order = random_stream(seed, Stream.ORDER, epoch=epoch, repeat=before).permutation(images)
    for number, place in enumerate(reshuffled[before:], start=before + 1):
        rest = order[place - start :]  # empty when the position is in a later epoch
        rest[:] = random_stream(seed, Stream.ORDER, epoch=epoch, repeat=number).permutation(rest)
    return order


@dataclass(frozen=True, kw_only=True)
class StepSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of every micro-batch of one rank, from `first_step` to `last_step` of the whole run.

    Step s of an epoch takes the s-th slice of `batch_size` images in that epoch's order; images that do not fill a
    batch are left out of that epoch. The slice is divided over ranks and accumulation steps, so the global batch is the
    same for any world size. With `repeats` each image takes that many places of its batch, and an epoch has that many
    times as many steps. From each of the steps `reshuffled` on, the images come in another order.
    """

    images: int
    batch_size: int
    seed: int
    first_step: int
    last_step: int
    repeats: int = 1
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1
    reshuffled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.images * self.repeats < self.batch_size:
            raise UserError(
                f"{self.images} images do not fill a batch of {self.batch_size}; use --batch-size "
                f"{self.images * self.repeats} or less"
            )
        parts = self.accumulate * self.world_size * self.repeats
        if self.batch_size % parts:
            repeated = f" with {self.repeats} repeats" if self.repeats > 1 else ""
            raise UserError(
                f"a batch of {self.batch_size} cannot be cut into {self.accumulate} accumulation steps on "
                f"{self.world_size} devices{repeated}; use --batch-size {max(1, self.batch_size // parts) * parts}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.images * self.repeats // self.batch_size

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        whole = self.batch_size // self.repeats
        micro = whole // (self.accumulate * self.world_size)
        order, order_epoch = np.empty(0, dtype=np.int64), -1
        for step in range(self.first_step, self.last_step):
            epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order = epoch_order(self.images, seed=self.seed, epoch=epoch, reshuffled=self._places())
                order_epoch = epoch
            for turn in range(self.accumulate):
                start = step_in_epoch * whole + (turn * self.world_size + self.rank) * micro
                yield [(epoch, int(index)) for index in order[start : start + micro]]

    def _places(self) -> list[int]:
        """The positions in the whole run, as `epoch_order` counts them, of the steps `reshuffled`."""
        steps = [divmod(step, self.steps_per_epoch) for step in sorted(self.reshuffled)]
        return [epoch * self.images + step * (self.batch_size // self.repeats) for epoch, step in steps]
