"""Unreadable images of a run: each listed once, and a run ends when there are too many."""

from itertools import chain
from typing import Any

import torch
from lightning_fabric import Fabric

from openmae.checkpoints.names import BAD_IMAGES
from openmae.data.batches import BadRecord, Batch, SeededImages
from openmae.errors import UserError
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.runs import Run
from openmae.training.state import TrainState

TRAIN = "train"


def of_split(run: Run, split: str) -> list[dict[str, Any]]:
    """The unreadable images of one split ("train": that are trained on, "test": that are measured) that a run lists.

    A record without a split is of an older version, which listed those of the training split only.
    """
    return [record for record in run.records(BAD_IMAGES) if record.get("split", TRAIN) == split]


class BadImages(Observer):
    """Counts the unreadable images that all processes have met.

    Args:
        fabric: the processes.
        run: where the images are listed.
        dataset: the images.
        limit: the share of them that may be unreadable.
    """

    def __init__(self, fabric: Fabric, run: Run, dataset: SeededImages, limit: float) -> None:
        self._fabric, self._run, self._images, self._limit = fabric, run, len(dataset), limit
        self._known = {int(record["image"]) for record in of_split(run, TRAIN)}
        self._new: dict[int, BadRecord] = {}

    def received(self, batch: Batch) -> None:
        """Remember the images of this batch that were unreadable."""
        self._new |= {record.image: record for record in batch.bad if record.image not in self._known}

    def wants(self, state: TrainState) -> bool:
        """When this process has met images that the others do not know of yet."""
        return bool(self._new)

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """List the images that any process has met.

        Raises:
            UserError: in every process, when more than the permitted share is unreadable.
        """
        if not wanted:
            return
        gathered = [list(self._new.values())] * self._fabric.world_size
        if self._fabric.world_size > 1:
            torch.distributed.all_gather_object(gathered, list(self._new.values()))
        found = {record.image: record for record in chain.from_iterable(gathered)}
        self._new = {}
        self._known |= found.keys()
        for record in found.values():
            self._run.append(BAD_IMAGES, {**record._asdict(), "split": TRAIN})
        if len(self._known) > self._limit * self._images:
            last = list(found.values())[-1]
            raise UserError(
                f"{len(self._known)} of {self._images} images cannot be decoded, the last one {last.name} "
                f"({last.reason}); repair what {self._run.path / BAD_IMAGES} lists, or raise --max-bad"
            )
