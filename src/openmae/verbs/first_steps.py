"""Verbs for a first look at the program."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from openmae.recipes import RECIPES, find_recipe
from openmae.recipes.recipe import SEED
from openmae.recipes.saved import to_dict
from openmae.reporting.results import RecipeSummary, summary
from openmae.verbs.verb import verb

if TYPE_CHECKING:
    from openmae.reporting.demo import DemoResult


@verb
def demo(*, out: str | Path = "runs/demo", seed: Annotated[int, SEED] = 0) -> "DemoResult":
    """Pre-train, measure and draw on the bundled Fashion-MNIST images, in a few minutes.

    Every measurement is made beside an untrained twin of the network.

    Args:
        out: Folder for the runs and the picture; the same folder continues a demo that was stopped.
        seed: Seed of everything random.
    """
    from openmae.reporting.demo import run_demo

    return run_demo(Path(out), seed=seed)


@verb
def list_recipes(name: str = "") -> list[RecipeSummary] | dict[str, Any]:
    """List every recipe, or print one as YAML.

    Args:
        name: A recipe; all of them when not given.
    """
    if name:
        return to_dict(find_recipe(name))
    return [summary(recipe) for recipe in RECIPES.values()]
