"""Hand-written lines of metrics.jsonl, and the facts of the run that they are of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from openmae.training.alarms.alarm import Facts, Line

EVERY, STEPS_PER_EPOCH, BATCH = 20, 100, 64

FACTS = Facts(
    base_lr=1e-3,
    lr=1e-3,
    total_steps=10_000,
    epochs=100,
    batch_size=BATCH,
    images=STEPS_PER_EPOCH * BATCH,
    trivial=0.98,
)


def facts(**changes: Any) -> Facts:
    return replace(FACTS, **changes)


def healthy_loss(step: float) -> float:
    """From 2 to 0.45, as on CIFAR-10."""
    return 0.45 + 0.4 * math.exp(-step / 1000) + 1.2 * math.exp(-step / 60)


def training(
    steps: int,
    loss: Callable[[float], float] = healthy_loss,
    *,
    noise: float = 0.01,
    every: int = EVERY,
    **figures: float | Callable[[float], float],
) -> list[Line]:
    """Lines of training up to a step; figures beside the loss are numbers, or functions of the step."""
    rng = np.random.default_rng(0)
    usual: dict[str, Any] = {
        "lr": 1e-3,
        "gradient_norm": 0.3,
        "waiting_for_data": 0.01,
        "images_per_second": 100.0,
        **figures,
    }
    return [
        {
            "step": step,
            "epoch": step / STEPS_PER_EPOCH,
            "loss": loss(step) * (1 + noise * rng.standard_normal()),
            **{name: figure(step) if callable(figure) else figure for name, figure in usual.items()},
        }
        for step in range(every, steps + 1, every)
    ]


def with_quality(lines: Sequence[Line], **figures: Sequence[float]) -> list[Line]:
    """These lines, and among them quality lines with such figures at equal distances, up to the last."""
    count = len(next(iter(figures.values())))
    last = lines[-1]["step"]
    measured: list[Line] = [
        {
            "step": last * (place + 1) / count,
            "epoch": last * (place + 1) / count / STEPS_PER_EPOCH,
            **{f"quality/{name}": values[place] for name, values in figures.items()},
        }
        for place in range(count)
    ]
    return sorted([*lines, *measured], key=lambda line: line["step"])
