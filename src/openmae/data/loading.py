"""Samplers and loaders in which (seed, epoch, image index) decides everything.

Workers, ranks, prefetching and restarts change who computes a sample, never what it is.
"""

import bisect
import enum
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from openmae.data.decoding import BadImage, PixelFormat, Pixels, Scratch, open_image, reason
from openmae.data.holding import HeldPixels
from openmae.data.memory import shared_memory
from openmae.data.sources import Source
from openmae.data.transforms import Box, Crop, Transform
from openmae.errors import UserError

REPLACEMENT_ATTEMPTS = 20
MAX_AUTOMATIC_WORKERS = 8
SCRATCH = Scratch()
PREFETCHED_BATCHES = 4  # of each worker; see docs/performance.md


class Stream(enum.IntEnum):
    """Independent sequences of random numbers drawn from one seed."""

    ORDER = 0
    AUGMENTATION = 1
    MASK = 2
    REPLACEMENT = 3
    SUBSET = 4
    STEP = 5


def random_stream(seed: int, stream: Stream, *, epoch: int = 0, index: int = 0, repeat: int = 0) -> np.random.Generator:
    """The random numbers of one image in one epoch: a counter-based generator, so each costs the same to reach.

    >>> a, b = (random_stream(1, Stream.MASK, epoch=3, index=7).random() for _ in range(2))
    >>> a == b
    True
    """
    # The lowest counter word advances as numbers are drawn; the others place images and epochs out of its reach.
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, index, epoch, repeat]))


def epoch_order(images: int, *, seed: int, epoch: int, reshuffled: Sequence[int] = ()) -> NDArray[np.int64]:
    """The order of the images in one epoch: a permutation of 0 … images-1.

    With `reshuffled` the order is another from each of these places of the whole run on (epoch * images + place in it),
    and still every image comes once in an epoch.
    """
    start = epoch * images
    before = bisect.bisect_right(reshuffled, start)
    order = random_stream(seed, Stream.ORDER, epoch=epoch, repeat=before).permutation(images)
    for number, place in enumerate(reshuffled[before:], start=before + 1):
        rest = order[place - start :]  # empty where the place lies in a later epoch
        rest[:] = random_stream(seed, Stream.ORDER, epoch=epoch, repeat=number).permutation(rest)
    return order


class BadRecord(NamedTuple):
    """An image that could not be decoded: its index in the source, its name and the reason."""

    image: int
    name: str
    reason: str


class Batch(NamedTuple):
    """What the loader hands out.

    `images` [B, C, H, W] uint8, uint16 or float32 (channels last in memory), `labels` [B] int64 (-1 when unknown),
    `noise` [B, N] float32 uniform numbers from which masks are made and paths dropped, `indices` [B] int64 into the
    source, `seeds`, one a view, of what is drawn for it on the device, and the images that were `bad`.
    """

    images: Tensor
    labels: Tensor
    noise: Tensor
    indices: Tensor
    seeds: list[int]
    """Plain numbers, because generators are seeded from the host: reading them off a device would wait for it."""
    bad: list[BadRecord]


class Sample(NamedTuple):
    """One image on its way into a batch, once or cropped and masked several times.

    `views` [H, W, C], `noise` [N] and `seeds`, one each; none when the image was bad and may not be replaced.
    """

    views: list[Pixels]
    noise: list[NDArray[np.float32]]
    seeds: list[int]
    label: int
    image: int
    bad: list[BadRecord]


@dataclass(frozen=True, kw_only=True)
class StepSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of every micro-batch of one rank, from `first_step` to `last_step` of the whole run.

    Step s of an epoch takes the s-th slice of `batch_size` images of that epoch's order; what does not fill a batch
    waits for another epoch. Ranks and accumulation cut that slice, so the global batch is the same for any world size.
    With `repeats` each image fills that many places of its batch, and an epoch has that many times the steps. From each
    of the steps `reshuffled` on the images come in another order.
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
        """Where in the sequence of all images of all epochs the steps `reshuffled` begin."""
        steps = [divmod(step, self.steps_per_epoch) for step in sorted(self.reshuffled)]
        return [epoch * self.images + step * (self.batch_size // self.repeats) for epoch, step in steps]


@dataclass(frozen=True, kw_only=True)
class SeededImages(Dataset[Sample]):
    """Samples addressed by (epoch, index).

    Args:
        source: where the bytes come from.
        transform: what is done to the pixels.
        format: channels and type of the pixels.
        seed: of everything random.
        noise: how many uniform numbers come with each view.
        repeats: how many views of an image come of decoding it once.
        held: where decoded pixels are kept, if they are.
        replace_bad: exchange an unreadable image for another, chosen by (seed, epoch, index), as training needs; when
            False the sample comes without pixels, so that measurements count only real images.
    """

    source: Source
    transform: Transform
    format: PixelFormat
    seed: int = 0
    noise: int = 0
    repeats: int = 1
    held: HeldPixels | None = None
    replace_bad: bool = True

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        bad: list[BadRecord] = []
        views, used = self._views(index, key, bad), index
        if not views and self.replace_bad:
            candidates = random_stream(self.seed, Stream.REPLACEMENT, epoch=epoch, index=index)
            for _ in range(REPLACEMENT_ATTEMPTS):
                used = int(candidates.integers(len(self.source)))
                views = self._views(used, key, bad)
                if views:
                    break
            else:
                raise UserError(
                    f"{len(bad)} images in a row cannot be decoded, the last one {bad[-1].name} ({bad[-1].reason}); "
                    "look at the files before training on them"
                )
        streams = [self._stream(Stream.MASK, key, repeat) for repeat in range(len(views))]
        noise = [stream.random(self.noise, dtype=np.float32) for stream in streams]
        seeds = [int(stream.integers(2**63)) for stream in streams]
        return Sample(views, noise, seeds, int(self.source.labels[used]), used, bad)

    def _views(self, image: int, key: tuple[int, int], bad: list[BadRecord]) -> list[Pixels]:
        """The views that `key` asks for, of that image; none, and a record of why, when it is bad."""

        def plan(height: int, width: int) -> list[Crop]:
            return [
                self.transform.plan(height, width, self._stream(Stream.AUGMENTATION, key, repeat))
                for repeat in range(self.repeats)
            ]

        pixels = self.held.get(image) if self.held is not None else None
        if pixels is not None:
            height, width = pixels.shape[:2]
            crops = plan(height, width)
        else:
            try:
                opened = open_image(self.source.read(image))
                height, width = opened.height, opened.width
                crops = plan(height, width)
                pixels = opened.decode(self.format, shrink=min(map(self.transform.shrink, crops)), scratch=SCRATCH)
            except (BadImage, OSError) as error:
                bad.append(BadRecord(image, self.source.name(image), reason(error)))
                return []
            # What may come smaller another time is not held, or pixels would depend on who decoded them first.
            whole = Crop(Box(0, 0, width, height))
            if self.held is not None and not (opened.shrinks and self.transform.shrink(whole) > 1):
                self.held.put(image, pixels)
        views = [self.transform.cut(pixels, crop, height, width) for crop in crops]
        # A view that needed no work may still lie where the next image will be decoded.
        return [view.copy() if np.may_share_memory(view, pixels) else view for view in views]

    def _stream(self, stream: Stream, key: tuple[int, int], repeat: int) -> np.random.Generator:
        return random_stream(self.seed, stream, epoch=key[0], index=key[1], repeat=repeat)


def collate(samples: list[Sample]) -> Batch:
    """Stack the views of all samples into a batch; a bad image has none."""
    counts = [len(sample.views) for sample in samples]
    views = [view for sample in samples for view in sample.views]
    noise = [row for sample in samples for row in sample.noise]
    shape = (len(views), *views[0].shape) if views else (0, 0, 0, 0)
    stacked = np.empty(shape, views[0].dtype if views else np.uint8)
    for place, view in zip(stacked, views, strict=True):
        place[:] = view
    batch = Batch(
        images=torch.from_numpy(stacked).permute(0, 3, 1, 2),
        labels=torch.tensor(np.repeat([sample.label for sample in samples], counts), dtype=torch.int64),
        noise=torch.from_numpy(np.stack(noise) if noise else np.empty((0, 0), dtype=np.float32)),
        indices=torch.tensor(np.repeat([sample.image for sample in samples], counts), dtype=torch.int64),
        seeds=[seed for sample in samples for seed in sample.seeds],
        bad=[record for sample in samples for record in sample.bad],
    )
    return batch if get_worker_info() is None else Batch(*map(_to_be_sent, batch))


def _to_be_sent(part: Any) -> Any:
    """A part of a batch as a loader process sends it; torch would put tensors into shared memory of its own."""
    if not isinstance(part, Tensor):
        return part
    return shared_memory(part.numel(), dtype=part.dtype).as_strided(part.shape, part.stride()).copy_(part)


def automatic_workers() -> int:
    """As many loader processes as there are processors to spare for each training process, at most 8."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    trainings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's word; Slurm gives each its own processors
    return max(0, min(MAX_AUTOMATIC_WORKERS, processors // trainings - 1))


def training_loader(
    dataset: SeededImages, sampler: StepSampler, *, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """All micro-batches of the rest of a run in one pass, so that workers live on across epochs."""
    return _loader(dataset, batch_sampler=sampler, workers=workers, pin_memory=pin_memory)


def evaluation_loader(
    dataset: SeededImages, *, batch_size: int, workers: int, pin_memory: bool, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Each image once, in order, none left out; a rank of several takes every `world_size`-th batch.

    Whole batches, so that each forward pass sees the same images for any world size: how matrix products round may
    depend on the number of rows.
    """
    images = [(0, index) for index in range(len(dataset))]
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return _loader(dataset, batch_sampler=batches[rank::world_size], workers=workers, pin_memory=pin_memory)


def _loader(
    dataset: SeededImages, *, batch_sampler: StepSampler | list[list[tuple[int, int]]], workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    loader: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # the loader is typed by samples, collate makes batches of them
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        worker_init_fn=_serve_the_last_step,
    )
    return loader


@contextmanager
def batches_of(loader: DataLoader[Batch]) -> Iterator[Iterator[Batch]]:
    """The batches of a loader, whose processes end with the block, also when it ends with an error.

    Left to itself torch ends them when nobody refers to the iterator any more, and the traceback of an error does. They
    would stay as long as a notebook keeps it, and then hold up the exit: they let the first SIGTERM pass.
    """
    batches = iter(loader)
    try:
        yield batches
    finally:
        if loader.num_workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]  # there is no public way


def _serve_the_last_step(_worker: int) -> None:
    """Let a loader process outlive the signal that asks its whole process group to stop: the last step needs it.

    The process that owns it ends it, with a second SIGTERM if need be.
    """

    def once(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, once)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
