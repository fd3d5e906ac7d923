"""The verbs that train by a recipe: each field of the recipe is a flag, and a keyword argument in Python."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, cast

from openmae.errors import UserError
from openmae.evaluation.results import Measurement
from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.recipes.warmup import fit_warmup
from openmae.reporter import say
from openmae.training.processes.launching import process_rank
from openmae.training.results import PretrainResult
from openmae.verbs.automatic_batch import resolve_batch
from openmae.verbs.verb import verb

R = TypeVar("R", bound=Recipe)


@verb
def pretrain(recipe: str | PretrainRecipe, *, out: str | Path | None = None, **fields: Any) -> PretrainResult:
    """Pre-train by a recipe; the same command again continues where it stopped.

    Args:
        recipe: The name of a recipe, or a recipe.
        out: The run folder; runs/RECIPE when not given. The same command continues what is there.
        fields: Values for any fields of the recipe: data="photos/", epochs=100. batch_size="auto" is the recipe's own
            batch, in as few accumulation steps as memory permits.
    """
    from openmae.evaluation.quality.observing import observe_quality
    from openmae.training.pretraining import run_pretraining

    fields, fits_memory = resolve_batch(fields)
    resolved = resolve(recipe, PretrainRecipe, fields)
    folder = run_folder(resolved, out)
    results = run_pretraining(resolved, folder, given=set(fields), fits_memory=fits_memory, observers=[observe_quality])
    report_if_wanted(resolved, folder)
    return cast(PretrainResult, results)


@verb
def linear(recipe: str | LinearRecipe, *, out: str | Path | None = None, **fields: Any) -> Measurement:
    """Linear evaluation: train a linear classifier on frozen features (--cached: in seconds, for small data).

    Args:
        recipe: The name of a recipe, or a recipe.
        out: The run folder; runs/RECIPE when not given. The same command continues what is there.
        fields: Values for any fields of the recipe: weights="runs/mine", data="photos/".
    """
    from openmae.evaluation.protocols.linear import run_linear

    resolved = resolve(recipe, LinearRecipe, fields)
    folder = run_folder(resolved, out)
    results = run_linear(resolved, folder)
    report_if_wanted(resolved, folder)
    return cast(Measurement, results)


@verb
def finetune(recipe: str | FinetuneRecipe, *, out: str | Path | None = None, **fields: Any) -> Measurement:
    """Fine-tune an encoder end to end, and measure it.

    Args:
        recipe: The name of a recipe, or a recipe.
        out: The run folder; runs/RECIPE when not given. The same command continues what is there.
        fields: Values for any fields of the recipe: weights="runs/mine", data="photos/".
    """
    from openmae.evaluation.protocols.finetune import run_finetune

    resolved = resolve(recipe, FinetuneRecipe, fields)
    folder = run_folder(resolved, out)
    results = run_finetune(resolved, folder)
    report_if_wanted(resolved, folder)
    return cast(Measurement, results)


def resolve(recipe: str | R, kind: type[R], fields: dict[str, Any]) -> R:
    """The recipe with this name, or this recipe, with other values of some fields.

    A warm-up that is too long for other epochs is shortened, and that is said.

    Raises:
        UserError: when there is no such recipe or no such field, or a value does not fit.
    """
    found = find_recipe(recipe, kind.stage) if isinstance(recipe, str) else recipe
    assert isinstance(found, kind)
    known = {field.name for field in dataclasses.fields(found)}
    if unknown := sorted(set(fields) - known):
        raise UserError(
            f"a {found.stage} recipe has no {', '.join(unknown)}; `openmae recipes {found.name}` prints its fields"
        )
    fitted = fit_warmup(dataclasses.replace(found, **fields), named=found, given="warmup_epochs" in fields)
    if fitted.note:
        say(fitted.note)
    assert isinstance(fitted.recipe, kind)
    return fitted.recipe


def report_if_wanted(recipe: Recipe, folder: Path) -> None:
    """Write the report of a finished training where the recipe asks for one; a training does not fail for its sake."""
    if not recipe.report or process_rank() > 0:
        return
    from openmae.reporting.report.writing import Wanted, write_report

    try:
        written = write_report(Wanted(runs=[str(folder)]))
    except UserError as error:
        say(f"no report was written: {error}")
    else:
        say(f"report: {written['path']}")


def run_folder(recipe: Recipe, out: str | Path | None) -> Path:
    """The folder of a run; runs/RECIPE when none is given."""
    return Path("runs") / recipe.name if out is None else Path(out)
