"""Single steps of the toy, without a run folder."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from openmae.data.batches import Batch, collate
from openmae.recipes import PretrainRecipe
from openmae.training.schedules import Schedule
from openmae.training.spec import TrainSpec
from openmae.training.state import TrainState, first_state
from tests.training.toy import BATCH, STEPS_PER_EPOCH, toy_spec


def begin(fabric: Fabric, recipe: PretrainRecipe) -> tuple[TrainSpec, TrainState]:
    torch.manual_seed(recipe.seed)
    spec = toy_spec(recipe)
    return spec, first_state(fabric, spec, Schedule(recipe=recipe, steps_per_epoch=STEPS_PER_EPOCH))


def random_batches() -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(3)
    while True:
        images = torch.randint(0, 256, (BATCH, 1, 4, 4), dtype=torch.uint8, generator=generator)
        uniform = torch.rand(BATCH, 3, generator=generator)
        yield collate([])._replace(images=images, uniform=uniform, indices=torch.arange(BATCH))


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    else:
        assert one == other
