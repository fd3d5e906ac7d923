"""The parts that a report does not have, and the commands that would add them."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openmae.recipes import RECIPES
from openmae.reporting.report.data_set import places_of
from openmae.reporting.report.measured import Measured
from openmae.reporting.run_files import RunFiles


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A part that the page does not have, and the command that would add it."""

    what: str
    command: str


def missing_parts(
    run: RunFiles, measured: Sequence[Measured], *, classes: bool, mistakes: bool, pictures: bool
) -> Iterator[Missing]:
    """What the report of a run lacks.

    Args:
        run: what it is about.
        measured: its measurements.
        classes: whether the report has accuracies of classes.
        mistakes: whether it has mistakes as pictures, or should have none.
        pictures: whether it has pictures of what the network sees.
    """
    place = shlex.quote(str(run.path))
    if run.stage != "pretrain":
        if weights := run.recipe.get("weights"):
            yield Missing(
                what="Pictures of what the network sees are in the report of the pre-training",
                command=f"openmae report {shlex.quote(str(weights))} {place}",
            )
        return
    encoders = {one.encoder for one in measured}
    measuring = f"--weights {place} --data {shlex.join(places_of(run.recipe) or ['LABELLED'])}"
    if "pretrained" not in encoders:
        yield Missing(
            what="How good the features are: this needs labels; a JSON file beside the run is found by itself",
            command=f"openmae knn {measuring} --json > {shlex.quote(f'{run.path}-knn.json')}",
        )
    if "untrained" not in encoders:
        yield Missing(
            what="Whether pre-training helped: the same for the untrained twin",
            command=f"openmae knn {measuring} --untrained --json > {shlex.quote(f'{run.path}-knn-untrained.json')}",
        )
    if not mistakes:
        recipe = _linear_recipe(str(run.recipe.get("name")))
        yield Missing(
            what="The worst mistakes as pictures: this needs a classifier"
            if classes
            else "Accuracy of each class and the worst mistakes: this needs labels and a classifier",
            command=f"openmae linear {recipe} {measuring} --cached --out {shlex.quote(f'{run.path}-linear')}",
        )
    if not pictures:
        yield Missing(
            what="Pictures of what the network sees: the images or the weights were not there",
            command=f"openmae report {place} --data IMAGES",
        )
    if not run.quality:
        recipe_file, again = shlex.quote(f"{run.path}/recipe.yaml"), shlex.quote(f"{run.path}-again")
        yield Missing(
            what="The loss beside trivial predictors, and reconstructions over time: a training writes them",
            command=f"openmae pretrain --recipe-file {recipe_file} --out {again}",
        )


def _linear_recipe(name: str) -> str:
    """The recipe for linear evaluation of what was pre-trained by the recipe of this name."""
    known = {recipe.name for recipe in RECIPES.values() if recipe.stage == "linear"}
    return next((one for one in (name, f"{name}-linear") if one in known), "RECIPE")
