"""A published classifier evaluated with its own protocol, and compared with the figure that was published for it."""

import re
from dataclasses import replace
from typing import TypedDict

import numpy as np

from openmae.data.sources import Data, Source, open_data
from openmae.errors import UserError
from openmae.evaluation.measuring import evaluate
from openmae.evaluation.splits import Split
from openmae.evaluation.tasks.classification import Classification
from openmae.evaluation.unreadable import say_unreadable
from openmae.recipes import FinetuneRecipe, find_recipe
from openmae.recipes.zoo import ZooEntry
from openmae.reporter import say
from openmae.training.processes.devices import measuring_processes
from openmae.weights.building import classifier_from
from openmae.weights.reading import read_weights

TOLERANCE = 0.1  # of top-1 in per cent; the reference's files on today's libraries differ by as much
CLASSES, IMAGES = 1000, 50_000
SYNSET = re.compile(r"n\d{8}")
FIRST, LAST = "n01440764", "n15075141"  # of the thousand classes in order


class PublishedCheck(TypedDict):
    """A published classifier on the validation images of ImageNet-1k."""

    name: str
    split: str
    images: int
    """Number of images that were measured; the published figures are of 50,000."""
    unreadable: int
    top1: float
    """Top-1 accuracy in per cent."""
    top5: float
    """Top-5 accuracy in per cent."""
    published_top1: float
    difference: float
    """Measured less published top-1."""
    tolerance: float
    agrees: bool
    """Whether the difference is at most the tolerance."""
    synsets: bool
    """Whether the classes are named by synsets, so that their order is certain."""


def check_published(entry: ZooEntry, data: str) -> PublishedCheck:
    """Evaluate the classifier of a row on images of ImageNet-1k and compare its top-1 with the published one.

    Raises:
        UserError: for a row without a classifier, and for images of other classes.
    """
    if entry.kind != "finetuned" or entry.url is None or entry.top1 is None or entry.recipe is None:
        raise UserError(
            f"{entry.name} has no published classifier to check; `openmae zoo` marks those rows as classifier"
        )
    recipe = find_recipe(entry.recipe, "finetune")
    assert isinstance(recipe, FinetuneRecipe)
    opened = open_data(data)
    split = _measured_split(opened)
    measured = _labelled(opened.splits[split], data)
    names = measured.targets.names
    synsets = all(SYNSET.fullmatch(name) for name in names)
    _require_imagenet(names, data, synsets=synsets)
    model = classifier_from(read_weights(f"zoo:{entry.name}"))
    if model.num_classes != len(names):
        raise UserError(f"{entry.name} tells {model.num_classes} classes apart, not {len(names)}; give other images")
    fabric = measuring_processes()
    say(f"evaluating {entry.name} on the {len(measured):,} images of {split} in {data}")
    found = evaluate(
        fabric,
        model.to(fabric.device),
        replace(recipe, decode="exact"),
        Classification(classes=names),
        measured,
    )
    assert found is not None, "nobody gives up"
    say_unreadable(found.bad, len(measured), "test")
    difference = found.figures["top1"] - entry.top1
    return {
        "name": entry.name,
        "split": split,
        "images": found.images,
        "unreadable": len(found.bad),
        "top1": found.figures["top1"],
        "top5": found.figures["top5"],
        "published_top1": entry.top1,
        "difference": difference,
        "tolerance": TOLERANCE,
        "agrees": abs(difference) <= TOLERANCE + 1e-9,
        "synsets": synsets,
    }


def _measured_split(data: Data) -> str:
    """The validation images, for the test images of ImageNet have no public labels; else the first split."""
    return next((name for name in ("val", "test") if name in data.splits), next(iter(data.splits)))


def _labelled(source: Source, data: str) -> Split:
    targets = source.targets("class")
    if not targets.known.any():
        raise UserError(f"the images in {data} have no classes; give a folder with one sub-folder per synset")
    labelled = np.flatnonzero(targets.known)
    split = Split(source, targets)
    return split if len(labelled) == len(split) else split.subset(labelled)


def _require_imagenet(names: tuple[str, ...], data: str, *, synsets: bool) -> None:
    if len(names) != CLASSES:
        raise UserError(
            f"{data} has {len(names)} classes, and ImageNet-1k has {CLASSES}; give all of them, in folders that are "
            f"named by their synsets, such as {FIRST}"
        )
    if synsets and (min(names), max(names)) != (FIRST, LAST):
        raise UserError(
            f"the classes of {data} go from {min(names)} to {max(names)}, and those of ImageNet-1k from {FIRST} to "
            f"{LAST}; give ImageNet-1k"
        )
    if synsets and list(names) != sorted(names):
        raise UserError(f"the classes of {data} are not in the order of their synsets; give folders named by synsets")
    if not synsets:
        say(
            f"the classes of {data} are not named by synsets, such as {FIRST}, but for example {names[0]!r}: it is "
            "assumed that they are in ImageNet's order; a top-1 near 0.1 % means that they are not"
        )
