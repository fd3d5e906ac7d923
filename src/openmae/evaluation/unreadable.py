"""Images that could not be read: not counted, said, and listed."""

from collections.abc import Sequence
from typing import Literal

from openmae.checkpoints.names import BAD_IMAGES
from openmae.data.batches import BadRecord
from openmae.evaluation.results import Unreadable, UnreadableImage, UnreadableKeys
from openmae.reporter import say
from openmae.training.observers.bad_images import of_split
from openmae.training.runs import Run

Role = Literal["train", "test"]
EXAMPLES = 10


def say_unreadable(bad: Sequence[BadRecord], images: int, role: Role) -> None:
    """Say that images of a split could not be read, with the first of them; nothing when all could be."""
    if bad:
        which = {"train": "training images", "test": "test images"}[role]
        say(
            f"{len(bad)} of {images} {which} could not be read and are not counted, such as {bad[0].name}: "
            f"{bad[0].reason}"
        )


def list_unreadable(run: Run, bad: Sequence[BadRecord], role: Role) -> list[BadRecord]:
    """Add those that are not listed yet to the list of the run; returns them."""
    listed = {record["image"] for record in of_split(run, role)}
    new = [record for record in bad if record.image not in listed]
    for record in new:
        run.append(BAD_IMAGES, {**record._asdict(), "split": role})
    return new


def describe_unreadable(bad: dict[Role, Sequence[BadRecord]]) -> UnreadableKeys:
    """The keys of a result: how many of each split, and the first names with the reasons."""
    examples = [
        UnreadableImage(split=role, name=record.name, reason=record.reason)
        for role, records in bad.items()
        for record in records[:EXAMPLES]
    ]
    counts = Unreadable(train=len(bad["train"]), test=len(bad["test"]))
    return UnreadableKeys(unreadable=counts, unreadable_images=examples)


def listed_by_training(run: Run) -> list[BadRecord]:
    """The unreadable training images that the run has met."""
    return [BadRecord(*(record[field] for field in BadRecord._fields)) for record in of_split(run, "train")]
