"""Data loaders and their worker processes, which decode the images."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from torch.utils.data import DataLoader

from openmae.data.batches import Batch, SeededImages, collate
from openmae.errors import UserError

MAX_AUTOMATIC_WORKERS = 8
Keys = Iterable[list[tuple[int, int]]]
"""The (epoch, image) pairs of each batch, as a `StepSampler` has them."""
PREFETCHED_BATCHES = 4  # of each worker; see docs/performance.md


def automatic_workers() -> int:
    """The number of workers: one for each spare processor, at most 8."""
    return min(MAX_AUTOMATIC_WORKERS, spare_processors())


def spare_processors() -> int:
    """The processors of each training process but the one that it needs itself."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    trainings = int(
        os.environ.get("LOCAL_WORLD_SIZE", "1")
    )  # set by torchrun; Slurm gives each process its own processors
    return max(0, processors // trainings - 1)


def training_loader(dataset: SeededImages, sampler: Keys, *, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """All micro-batches of the rest of a run in one pass, so that workers do not restart at each epoch."""
    return _loader(dataset, batch_sampler=sampler, workers=workers, pin_memory=pin_memory)


def evaluation_loader(
    dataset: SeededImages, *, batch_size: int, workers: int, pin_memory: bool, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Each image once, in order; every rank takes every `world_size`-th batch.

    Ranks divide whole batches, so that each forward pass receives the same images for any world size: the rounding of
    matrix products may depend on the number of rows.
    """
    images = [(0, index) for index in range(len(dataset))]
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return _loader(dataset, batch_sampler=batches[rank::world_size], workers=workers, pin_memory=pin_memory)


def _loader(dataset: SeededImages, *, batch_sampler: Keys, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    loader: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # typed by samples, of which collate makes batches
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        worker_init_fn=_outlive_stop_signals,
    )
    return loader


@contextmanager
def batches_of(loader: DataLoader[Batch]) -> Iterator[Iterator[Batch]]:
    """The batches of a loader. Its workers end with the block, also when the block ends with an error.

    A user's mistake that a worker finds comes without the worker's traceback, and a worker that dies is one, too.

    torch itself ends the workers when the iterator is no longer referred to, but the traceback of an error still refers
    to it. A notebook keeps that traceback; the workers would stay, and delay the exit, because they ignore the first
    SIGTERM.
    """
    batches = iter(loader)
    try:
        yield _with_plain_errors(batches)
    finally:
        if loader.num_workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]  # there is no public way


def _with_plain_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            message = str(error).strip()
            if message.startswith("Caught "):  # torch puts the name of the worker and a traceback before it
                message = message.rsplit(f"{type(error).__name__}: ", 1)[-1]
            raise UserError(message) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that decodes images has died ({error}); if memory was short use fewer --workers, and run "
                "the same command again to continue"
            ) from error
        yield batch


def _outlive_stop_signals(_worker: int) -> None:
    """Make a worker ignore the signal that asks its whole process group to stop: the last step still needs its images.

    The training process ends the worker, with a second SIGTERM if need be.
    """

    def once(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, once)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
