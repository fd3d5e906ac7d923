from itertools import count

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision

from openmae.recipes import PretrainRecipe
from openmae.training.trainer import train_step
from tests.training.steps import assert_same, begin, random_batches


def in_fp16(scale: float) -> Fabric:
    """A processor that computes as a GPU does in fp16, with its scaler."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))


def test_a_scale_that_is_too_large_is_halved_until_the_gradient_fits(recipe: PretrainRecipe) -> None:
    fabric = in_fp16(2.0**20)
    spec, state = begin(fabric, recipe)
    assert state.scaler is not None
    before = state.capture(keep=True, copy=True)
    batches = random_batches()
    for step in count(1):
        outcome = train_step(fabric, spec, state, batches, ())
        if not outcome.skipped:
            break
        assert outcome.problem is None
        assert (state.skipped_in_a_row, state.pending_losses) == (0, [])
        assert state.scaler.get_scale() == 2.0 ** (20 - step)
        assert_same(dict(state.capture(keep=True, copy=True).model), dict(before.model))
    assert 1 < step < 20
    assert len(state.pending_losses) == 1
    assert not torch.equal(state.capture(keep=True, copy=True).model["linear.weight"], before.model["linear.weight"])


def test_a_loss_that_is_not_finite_is_no_fault_of_the_scale(recipe: PretrainRecipe) -> None:
    fabric = in_fp16(2.0**10)
    spec, state = begin(fabric, recipe)
    assert state.scaler is not None
    poisoned = (batch._replace(uniform=batch.uniform * float("nan")) for batch in random_batches())
    outcome = train_step(fabric, spec, state, poisoned, ())
    assert outcome.problem is not None
    assert outcome.problem.startswith("the loss is nan")
    assert (state.skipped_in_a_row, state.scaler.get_scale()) == (1, 2.0**10)


def test_the_scale_is_part_of_the_state(recipe: PretrainRecipe) -> None:
    fabric = in_fp16(2.0**126)
    spec, state = begin(fabric, recipe)
    train_step(fabric, spec, state, random_batches(), ())
    captured = state.capture(keep=True, copy=True)
    _, other = begin(in_fp16(2.0**5), recipe)
    other.restore(captured)
    assert other.scaler is not None
    assert other.scaler.get_scale() == 2.0**125


@pytest.mark.parametrize("scale", [1.0, 2.0**12])
def test_the_gradient_is_measured_and_clipped_without_the_scale(recipe: PretrainRecipe, scale: float) -> None:
    fabric = in_fp16(scale)
    spec, state = begin(fabric, recipe)
    outcome = train_step(fabric, spec, state, random_batches(), ())
    plain = Fabric(accelerator="cpu", devices=1, precision="32-true")
    expected = train_step(plain, *begin(plain, recipe), random_batches(), ())
    assert outcome.gradient_norm == pytest.approx(expected.gradient_norm, rel=0.02)
