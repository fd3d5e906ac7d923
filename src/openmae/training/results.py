"""The result of a training, as it is returned and written to results.json."""

from typing import Any, TypedDict


class PretrainResult(TypedDict, total=False):
    """A finished pre-training and its latest figures. Figures that were not measured are left out."""

    protocol: str
    recipe: str
    seed: int
    data: dict[str, Any]
    """The splits with the number of their images and whether they were used, and what was left out."""
    out: str
    epoch: float
    samples: int
    loss: float
    lr: float
    gradient_norm: float
    images_per_second: float
    waiting_for_data: float
    """Share of the time in which the model waited for images."""
    skipped_steps: int
