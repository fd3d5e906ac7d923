"""Unreadable images of a run: each listed once, and a run ends when there are too many."""

from itertools import chain

import torch
from lightning_fabric import Fabric

from openmae.checkpoints.names import BAD_IMAGES
from openmae.data.batches import BadRecord, Batch, SeededImages
from openmae.errors import UserError
from openmae.training.runs import Run


class BadImages:
    """Counts the unreadable images that all processes have met.

    Args:
        run: where they are listed.
        dataset: the images.
        limit: the share of them that may be unreadable.
    """

    def __init__(self, run: Run, dataset: SeededImages, limit: float) -> None:
        self._run, self._images, self._limit = run, len(dataset), limit
        self._known = {int(record["image"]) for record in run.records(BAD_IMAGES)}
        self._new: dict[int, BadRecord] = {}

    @property
    def unreported(self) -> int:
        """How many this process has met that the others do not know of yet."""
        return len(self._new)

    def see(self, batch: Batch) -> None:
        """Note what was unreadable in a batch of this process."""
        self._new |= {record.image: record for record in batch.bad if record.image not in self._known}

    def report(self, fabric: Fabric) -> None:
        """List what any process has met; every process must call it together.

        Raises:
            UserError: in every process, when more than the permitted share is unreadable.
        """
        gathered = [list(self._new.values())] * fabric.world_size
        if fabric.world_size > 1:
            torch.distributed.all_gather_object(gathered, list(self._new.values()))
        found = {record.image: record for record in chain.from_iterable(gathered)}
        self._new = {}
        self._known |= found.keys()
        for record in found.values():
            self._run.append(BAD_IMAGES, record._asdict())
        if len(self._known) > self._limit * self._images:
            last = list(found.values())[-1]
            raise UserError(
                f"{len(self._known)} of {self._images} images cannot be decoded, the last one {last.name} "
                f"({last.reason}); repair what {self._run.path / BAD_IMAGES} lists, or raise --max-bad"
            )
