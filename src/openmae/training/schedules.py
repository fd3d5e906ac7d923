"""The learning rate as a pure function of the step."""

import math


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
