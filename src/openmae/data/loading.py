"""Samplers and loaders in which (seed, epoch, image index) decides everything.

Workers, ranks, prefetching and restarts change who computes a sample, never what it is.
"""

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from openmae.data.decoding import BadImage, Pixels, decode
from openmae.data.sources import Source

Transform = Callable[[Pixels, np.random.Generator], Pixels]

REPLACEMENT_ATTEMPTS = 20
MAX_AUTOMATIC_WORKERS = 8


class Stream(enum.IntEnum):
    """Independent sequences of random numbers drawn from one seed."""

    ORDER = 0
    AUGMENTATION = 1
    MASK = 2
    REPLACEMENT = 3
    SUBSET = 4
    STEP = 5


def random_stream(seed: int, stream: Stream, *, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """The random numbers of one image in one epoch: a counter-based generator, so each costs the same to reach.

    >>> a, b = (random_stream(1, Stream.MASK, epoch=3, index=7).random() for _ in range(2))
    >>> a == b
    True
    """
    # The lowest counter word advances as numbers are drawn; the others place images and epochs out of its reach.
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, index, epoch, 0]))


def epoch_order(images: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in one epoch: a permutation of 0 … images-1."""
    return random_stream(seed, Stream.ORDER, epoch=epoch).permutation(images)


class BadRecord(NamedTuple):
    """An image that could not be decoded: its index in the source, its name and the reason."""

    image: int
    name: str
    reason: str


class Batch(NamedTuple):
    """What the loader hands out.

    `images` [B, C, H, W] uint8, `labels` [B] int64 (-1 when unknown), `noise` [B, N] float32 uniform numbers from which
    masks are made, `indices` [B] int64 into the source, and the images that were `bad`.
    """

    images: Tensor
    labels: Tensor
    noise: Tensor
    indices: Tensor
    bad: list[BadRecord]


class Sample(NamedTuple):
    """One image on its way into a batch; `pixels` is None when it was bad and may not be replaced."""

    pixels: Pixels | None
    label: int
    noise: NDArray[np.float32]
    image: int
    bad: list[BadRecord]


@dataclass(frozen=True, kw_only=True)
class StepSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of every micro-batch of one rank, from `first_step` to `last_step` of the whole run.

    Step s of an epoch takes the s-th slice of `batch_size` images of that epoch's order; what does not fill a batch
    waits for another epoch. Ranks and accumulation cut that slice, so the global batch is the same for any world size.
    """

    images: int
    batch_size: int
    seed: int
    first_step: int
    last_step: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.images < self.batch_size:
            raise ValueError(
                f"{self.images} images do not fill a batch of {self.batch_size}; use --batch-size {self.images} or less"
            )
        parts = self.accumulate * self.world_size
        if self.batch_size % parts:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be cut into {self.accumulate} accumulation steps on "
                f"{self.world_size} devices; use --batch-size {max(1, self.batch_size // parts) * parts}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        micro = self.batch_size // (self.accumulate * self.world_size)
        order, order_epoch = np.empty(0, dtype=np.int64), -1
        for step in range(self.first_step, self.last_step):
            epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(self.images, seed=self.seed, epoch=epoch), epoch
            for turn in range(self.accumulate):
                start = step_in_epoch * self.batch_size + (turn * self.world_size + self.rank) * micro
                yield [(epoch, int(index)) for index in order[start : start + micro]]


@dataclass(frozen=True, kw_only=True)
class SeededImages(Dataset[Sample]):
    """Samples addressed by (epoch, index).

    Args:
        source: where the bytes come from.
        transform: what is done to the decoded pixels.
        channels: 1 or 3.
        seed: of everything random.
        noise: how many uniform numbers come with each image.
        replace_bad: exchange an unreadable image for another, chosen by (seed, epoch, index), as training needs; when
            False the sample comes without pixels, so that measurements count only real images.
    """

    source: Source
    transform: Transform
    channels: int
    seed: int = 0
    noise: int = 0
    replace_bad: bool = True

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        bad: list[BadRecord] = []
        pixels, used = self._read(index, bad), index
        if pixels is None and self.replace_bad:
            candidates = random_stream(self.seed, Stream.REPLACEMENT, epoch=epoch, index=index)
            for _ in range(REPLACEMENT_ATTEMPTS):
                used = int(candidates.integers(len(self.source)))
                pixels = self._read(used, bad)
                if pixels is not None:
                    break
            else:
                raise ValueError(
                    f"{len(bad)} images in a row cannot be decoded, the last one {bad[-1].name} ({bad[-1].reason}); "
                    "look at the files before training on them"
                )
        if pixels is not None:
            pixels = self.transform(pixels, random_stream(self.seed, Stream.AUGMENTATION, epoch=epoch, index=index))
        noise = random_stream(self.seed, Stream.MASK, epoch=epoch, index=index).random(self.noise, dtype=np.float32)
        return Sample(pixels, int(self.source.labels[used]), noise, used, bad)

    def _read(self, index: int, bad: list[BadRecord]) -> Pixels | None:
        try:
            return decode(self.source.read(index), self.channels)
        except (BadImage, OSError) as error:
            bad.append(BadRecord(index, self.source.name(index), str(error)))
            return None


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch, leaving out those without pixels."""
    readable = [sample for sample in samples if sample.pixels is not None]
    pixels = [sample.pixels for sample in readable if sample.pixels is not None]
    stacked = np.stack(pixels) if pixels else np.empty((0, 0, 0, 0), dtype=np.uint8)
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))),
        labels=torch.tensor([sample.label for sample in readable], dtype=torch.int64),
        noise=torch.from_numpy(
            np.array([s.noise for s in readable], dtype=np.float32).reshape(len(readable), len(samples[0].noise))
        ),
        indices=torch.tensor([sample.image for sample in readable], dtype=torch.int64),
        bad=[record for sample in samples for record in sample.bad],
    )


def automatic_workers() -> int:
    """As many loader processes as there are processors to spare, at most 8."""
    return min(MAX_AUTOMATIC_WORKERS, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1)


def training_loader(
    dataset: SeededImages, sampler: StepSampler, *, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """All micro-batches of the rest of a run in one pass, so that workers live on across epochs."""
    return _loader(dataset, batch_sampler=sampler, workers=workers, pin_memory=pin_memory)


def evaluation_loader(
    dataset: SeededImages, *, batch_size: int, workers: int, pin_memory: bool, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Each image once, in order, none left out; a rank of several takes every `world_size`-th image."""
    mine = [(0, index) for index in range(rank, len(dataset), world_size)]
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return _loader(dataset, batch_sampler=batches, workers=workers, pin_memory=pin_memory)


def _loader(
    dataset: SeededImages, *, batch_sampler: StepSampler | list[list[tuple[int, int]]], workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    loader: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # the loader is typed by samples, collate makes batches of them
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
    )
    return loader
