"""How long a run is, and its learning rates as pure functions of the step."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openmae.recipes import FinetuneRecipe, PretrainRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps of a run, as its recipe and the number of its images determine them.

    Args:
        recipe: epochs, warm-up and rates.
        steps_per_epoch: whole batches only.
    """

    recipe: Recipe
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def frozen_steps(self) -> int:
        """How many steps leave the encoder as it is."""
        epochs = self.recipe.encoder_frozen_epochs if isinstance(self.recipe, PretrainRecipe) else 0.0
        assert epochs != "auto", "the weights decide it before the training"
        return round(epochs * self.steps_per_epoch)

    def ends_epochs(self, step: int, every: int) -> bool:
        """Whether `step` steps make up a multiple of `every` epochs, or the whole run."""
        return step == self.total_steps or step % (self.steps_per_epoch * every) == 0

    def rates(self, step: int, groups: Iterable[Mapping[str, Any]]) -> list[float]:
        """The learning rate of each parameter group of an optimizer at this step; `lr_scale` in a group scales it.

        A group that is `frozen_at_first` has the rate 0 for the epochs in which the recipe freezes the encoder. It then
        warms up to the rate of the others.
        """
        recipe = self.recipe
        warmup_steps = min(self.total_steps, round(recipe.warmup_epochs * self.steps_per_epoch))
        floor_scaled = not isinstance(recipe, FinetuneRecipe) or recipe.min_lr_scaled
        thawed = _thawed(step - self.frozen_steps, warmup_steps)
        scales = [(float(group.get("lr_scale", 1.0)), group.get("frozen_at_first", False)) for group in groups]
        return [
            (thawed if frozen else 1)
            * learning_rate(
                step,
                peak=recipe.lr * scale,
                floor=recipe.min_lr * scale if floor_scaled else recipe.min_lr,
                total_steps=self.total_steps,
                warmup_steps=warmup_steps,
                warmup_start=recipe.warmup_start,
            )
            for scale, frozen in scales
        ]


def _thawed(steps: int, warmup_steps: int) -> float:
    """The share of its rate that a frozen group has, by the steps since it was thawed.

    >>> [_thawed(steps, warmup_steps=2) for steps in (-1, 0, 1, 2, 3)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if warmup_steps == 0:
        return float(steps >= 0)
    return min(1.0, max(0, steps) / warmup_steps)


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: int, warmup_start: float = 0.0) -> tuple[float, bool]:
    """Progress of the learning rate before step `step` (0-based): (factor in 0 … 1, whether warm-up is over).

    Linear warm-up from `warmup_start` to 1, then half a cosine to 0 (SGDR without restarts), both per iteration.

    >>> [round(warmup_cosine(s, total_steps=6, warmup_steps=2)[0], 3) for s in range(6)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return warmup_start + (1 - warmup_start) * step / warmup_steps, False
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))), True


def learning_rate(
    step: int, *, peak: float, floor: float, total_steps: int, warmup_steps: int, warmup_start: float = 0.0
) -> float:
    """The learning rate at `step`: warm-up from `warmup_start * peak` to `peak`, then a cosine down to `floor`."""
    factor, warm = warmup_cosine(step, total_steps=total_steps, warmup_steps=warmup_steps, warmup_start=warmup_start)
    return floor + (peak - floor) * factor if warm else peak * factor
