"""One pass of a network over all readable images of a source, shared among the processes."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from openmae.core.network import Network
from openmae.data.batches import BadRecord, Batch, SeededImages
from openmae.data.sources import Source
from openmae.data.targets import Targets
from openmae.data.transforms import EvalTransform
from openmae.data.workers import batches_of, evaluation_loader
from openmae.errors import UserError
from openmae.evaluation.gathering import add_up, gather_bad, gather_rows
from openmae.reporter import ProgressView
from openmae.training.pixels import pixel_format


class Passed(NamedTuple):
    """`rows` [N, …] and `indices` [N] of the readable images in their order, and the images that are unreadable."""

    rows: Tensor
    indices: NDArray[np.int64]
    bad: list[BadRecord]


def evaluation_transform(network: Network) -> EvalTransform:
    """How images are resized and cropped for this network when nothing may be random."""
    return EvalTransform(
        size=network.image_size,
        resize=network.eval_resize,
        interpolation=network.interpolation,
        exact=network.exact_decoding,
    )


def evaluation_images(network: Network, source: Source, targets: Targets | None = None) -> SeededImages:
    """Every image of `source` as this network wants it when nothing may be random; bad ones are left out."""
    return SeededImages(
        source=source,
        transform=evaluation_transform(network),
        format=pixel_format(network),
        targets=targets,
        replace_bad=False,
    )


@torch.inference_mode()
def run_over(
    fabric: Fabric,
    dataset: SeededImages,
    rows_of: Callable[[Batch], Tensor],
    *,
    empty: Tensor,
    batch_size: int,
    workers: int,
    title: str = "",
    give_up: Callable[[], bool] = lambda: False,
) -> Passed | None:
    """Compute rows for every readable image once; every process gets all of them, or None if any has given up.

    The rows are the same for any number of processes: the size of a batch and who gets it depend on the images only.

    Args:
        fabric: the processes that share the work.
        dataset: the images, with targets or without.
        rows_of: a batch, whose images are on the device, to rows [B, …] on the CPU.
        empty: no rows [0, …], because a process may have no batch.
        batch_size: images that pass at once.
        workers: processes that decode.
        title: of the progress; none is shown when "".
        give_up: asked before each batch.

    Raises:
        UserError: when no image can be read.
    """
    loader = evaluation_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        pin_memory=fabric.device.type == "cuda",
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    rows, indices, bad = [empty], [torch.empty(0, dtype=torch.int64)], list[BadRecord]()
    images, seen = len(dataset), 0
    gave_up = np.zeros(1, dtype=np.int64)
    with ProgressView(title, images) if title else nullcontext() as view, batches_of(loader) as batches:
        for batch in batches:
            if give_up():
                gave_up[0] = 1
                break
            bad += batch.bad
            if view is not None:
                seen = min(images, seen + fabric.world_size * (len(batch.indices) + len(batch.bad)))
                view.update(seen, title, f"{seen:,} of {images:,} images")
            if not len(batch.indices):
                continue
            rows.append(rows_of(batch._replace(images=batch.images.to(fabric.device, non_blocking=True))))
            indices.append(batch.indices)
    if add_up(fabric, gave_up).any():
        return None
    bad = gather_bad(fabric, bad)
    rows_N, indices_N = (gather_rows(fabric, torch.cat(parts)) for parts in (rows, indices))
    if not len(indices_N):
        raise unreadable_as_a_whole(bad, images)
    order = indices_N.argsort()
    return Passed(rows_N[order], indices_N[order].numpy(), bad)


def unreadable_as_a_whole(bad: list[BadRecord], images: int) -> UserError:
    """The error when none of so many images can be read."""
    return UserError(f"none of the {images} images can be decoded, e.g. {bad[0].name} ({bad[0].reason}); check --data")
