"""Processes that decode images, and the loaders that they serve."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch.utils.data import DataLoader

from openmae.data.batches import Batch, SeededImages, collate
from openmae.data.sampling import StepSampler

MAX_AUTOMATIC_WORKERS = 8
PREFETCHED_BATCHES = 4  # of each worker; see docs/performance.md


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
