"""Memory by part: the arithmetic of optimizers, strategies and images."""

from dataclasses import replace

import pytest

from openmae.core.cost import Cost
from openmae.recipes import PretrainRecipe
from openmae.recipes.values import Every
from openmae.training.memory import GPU_RESERVED, memory_of

COST = Cost(
    parameters=1000,
    encoder_parameters=800,
    fixed=10,
    encoder_fixed=5,
    largest_block=100,
    patches=49,
    visible=12,
    encoder=1,
    decoder=1,
    step=6,
    activations=5000,
    copies=2000,
)


@pytest.fixture
def recipe(tiny_recipe: PretrainRecipe) -> PretrainRecipe:
    return replace(tiny_recipe, optimizer="adamw", save_every=Every(10, "min"))


def test_adamw_keeps_two_numbers_for_each_weight_and_muon_one(recipe: PretrainRecipe) -> None:
    adamw = memory_of(recipe, COST, precision="32-true")
    muon = memory_of(replace(recipe, optimizer="muon"), COST, precision="32-true")
    assert (adamw.weights, adamw.gradients, adamw.optimizer, muon.optimizer) == (4000, 4000, 8000, 4000)
    assert adamw.states - muon.states == 4000


def test_several_processes_exchange_gradients_and_an_average_is_another_copy(recipe: PretrainRecipe) -> None:
    alone = memory_of(recipe, COST, precision="32-true")
    several = memory_of(replace(recipe, ema_decay=0.99), COST, precision="32-true", processes=2)
    assert (alone.buckets, alone.average) == (0, 0)
    assert (several.buckets, several.average) == (4000, 4000)


def test_fsdp_divides_the_states_and_accumulation_keeps_gradients_whole(recipe: PretrainRecipe) -> None:
    sharded = replace(recipe, strategy="fsdp")
    memory = memory_of(sharded, COST, precision="bf16-mixed", processes=4, gpu=True)
    accumulated = memory_of(replace(sharded, accumulate=2), COST, precision="bf16-mixed", processes=4, gpu=True)
    assert (memory.weights, memory.optimizer, memory.gathered, memory.copies) == (1000, 2000, 800, 0)
    assert accumulated.gradients - memory.gradients == 4000


def test_the_most_images_are_those_that_still_fit(recipe: PretrainRecipe) -> None:
    memory = memory_of(recipe, COST, precision="bf16-mixed", gpu=True)
    available = memory.total(7)
    assert memory.reserved == GPU_RESERVED
    assert (memory.most_images(available), memory.most_images(available - 1), memory.most_images(0)) == (7, 6, 0)


def test_double_precision_takes_twice_as_much(recipe: PretrainRecipe) -> None:
    single, double = (memory_of(recipe, COST, precision=one) for one in ("32-true", "64-true"))
    assert double.weights == 2 * single.weights
    assert double.image > single.image + COST.activations - 1
