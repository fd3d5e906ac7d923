from dataclasses import replace

import pytest
import torch

from openmae.recipes import PretrainRecipe
from openmae.training.noise_step import fresh_network, noise_step
from openmae.training.processes.devices import Precision, join_processes


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", torch.float32), ("bf16-mixed", torch.float32), ("64-true", torch.float64)],
)
def test_a_step_on_noise_leaves_gradients_in_the_precision_of_the_weights(
    tiny_recipe: PretrainRecipe, precision: Precision, dtype: torch.dtype
) -> None:
    recipe = replace(tiny_recipe, precision=precision)
    fabric = join_processes(precision=precision, accelerator="cpu")
    model = fresh_network(fabric, recipe)
    noise_step(fabric, recipe, model, 2)
    assert {one.grad.dtype for one in model.parameters() if one.grad is not None} == {dtype}
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
