"""The verb that looks at a training before it is run."""

from typing import TYPE_CHECKING, Annotated, Any

from openmae.recipes import PretrainRecipe
from openmae.recipes.constraints import NOT_NEGATIVE, Range, at_least
from openmae.reporter import quiet
from openmae.verbs.automatic_batch import resolve_batch
from openmae.verbs.training import resolve
from openmae.verbs.verb import verb

if TYPE_CHECKING:
    from openmae.reporting.plan.result import PlanResult

PEAK_SHARE = Range(words="lie in (0, 1]", low=0, high=1, without_low=True, hint="0.4 is 40 % of the peak")


@verb
def plan(
    recipe: str | PretrainRecipe,
    *,
    gpu: tuple[str, ...] = (),
    price: Annotated[float | None, NOT_NEGATIVE] = None,
    images: Annotated[int | None, at_least(1)] = None,
    trial_seconds: Annotated[float, NOT_NEGATIVE] = 30,
    peak_share: Annotated[float, PEAK_SHARE] = 0.4,
    **fields: Any,
) -> "PlanResult":
    """Look at a pre-training before it runs: parameters, FLOPs, memory, hours, cost, and what is known to fail.

    With --data, loader and steps are tried on this machine for half a minute; nothing is written.

    Args:
        recipe: The name of a recipe, or a recipe.
        gpu: GPUs to compute the run for from their data sheets, such as H100 L4 RTX-4090; an unknown name lists all.
            A100, H100, L40S and RTX-4090 when not given.
        price: Price of one device for one hour, in any currency; --devices and --nodes say how many there are.
        images: Number of images, where no --data is given; of the published recipes ImageNet's 1,281,167.
        trial_seconds: Length of the trial with --data; 0 for none.
        peak_share: Share of a GPU's peak that training is assumed to reach.
        fields: Values for any fields of the recipe: data="photos/", epochs=100.
    """
    from openmae.reporting.plan.gpus import find_gpu
    from openmae.reporting.plan.planning import Question, make_plan

    fields, fits_memory = resolve_batch(fields)
    with quiet():  # the plan itself warns of the warm-up
        resolved = resolve(recipe, PretrainRecipe, fields)
    return make_plan(
        Question(
            recipe=resolved,
            given=set(fields),
            fits_memory=fits_memory,
            images=images,
            gpus=tuple(map(find_gpu, gpu)),
            share=peak_share,
            price=price,
            seconds=trial_seconds,
        )
    )
