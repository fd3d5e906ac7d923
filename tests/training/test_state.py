from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from openmae.checkpoints.checkpoint import Checkpoint
from openmae.data.batches import Batch
from openmae.recipes import PretrainRecipe
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.state import TrainState
from openmae.training.trainer import train_step
from tests.training.steps import assert_same, begin, random_batches
from tests.training.toy import BATCH


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def assert_same_checkpoint(one: Checkpoint, other: Checkpoint) -> None:
    for field in fields(Checkpoint):
        assert_same(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.8}, {"optimizer": "muon"}], ids=["plain", "average", "muon"])
def test_a_restored_state_is_the_captured_one_and_trains_on_alike(
    fabric: Fabric, recipe: PretrainRecipe, changes: dict[str, Any]
) -> None:
    recipe = replace(recipe, **changes)
    spec, state = begin(fabric, recipe)
    batches = random_batches()
    for _ in range(5):
        train_step(fabric, spec, state, batches, ())
    state.skipped_in_a_row = 2
    captured = state.capture(keep=True, copy=True)
    assert (captured.step, len(captured.pending_losses), captured.skipped_in_a_row) == (5, 5, 2)

    other_spec, other = begin(fabric, replace(recipe, seed=99))
    other.restore(captured)
    assert_same_checkpoint(other.capture(keep=True, copy=True), captured)
    rest = [next(batches) for _ in range(3)]
    for which, where in ((spec, state), (other_spec, other)):
        for batch in rest:
            train_step(fabric, replace(which, recipe=recipe), where, iter([batch]), ())
    assert_same_checkpoint(other.capture(keep=True, copy=True), state.capture(keep=True, copy=True))


def test_a_copy_stays_as_it_was_while_the_training_goes_on(fabric: Fabric, recipe: PretrainRecipe) -> None:
    spec, state = begin(fabric, recipe)
    batches = random_batches()
    train_step(fabric, spec, state, batches, ())
    copied, own = state.capture(keep=True, copy=True), state.capture(keep=True, copy=False)
    before = {name: tensor.clone() for name, tensor in copied.model.items()}
    train_step(fabric, spec, state, batches, ())
    assert_same(dict(copied.model), before)
    assert copied.step == 1
    assert len(copied.pending_losses) == 1
    assert not torch.equal(own.model["linear.weight"], before["linear.weight"]), "no copy, no memory"


def test_a_process_that_need_not_keep_the_state_takes_no_memory_for_it(fabric: Fabric, recipe: PretrainRecipe) -> None:
    spec, state = begin(fabric, recipe)
    train_step(fabric, spec, state, random_batches(), ())
    captured = state.capture(keep=False, copy=True)
    assert (captured.model, captured.optimizer) == ({}, {})


class Curious(Observer):
    """Wants to act after every second step."""

    def __init__(self) -> None:
        self.batches = 0
        self.seen: list[tuple[int, bool]] = []

    def received(self, batch: Batch) -> None:
        self.batches += len(batch.images)

    def wants(self, state: TrainState) -> bool:
        return state.step % 2 == 0

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        self.seen.append((state.step, wanted))


def test_an_observer_sees_each_batch_and_learns_whether_a_process_wanted_it_to_act(
    fabric: Fabric, recipe: PretrainRecipe
) -> None:
    spec, state = begin(fabric, recipe)
    idle, curious = Observer(), Curious()
    batches = random_batches()
    wanted = [train_step(fabric, spec, state, batches, (idle, curious)).wanted for _ in range(4)]
    assert wanted == [(False, False), (False, True)] * 2
    assert curious.batches == 4 * BATCH


def test_a_skipped_step_counts_and_changes_no_weight(fabric: Fabric, recipe: PretrainRecipe) -> None:
    spec, state = begin(fabric, recipe)
    before = state.capture(keep=True, copy=True)
    poisoned = (batch._replace(uniform=batch.uniform * float("nan")) for batch in random_batches())
    outcome = train_step(fabric, spec, state, poisoned, ())
    assert outcome.skipped
    assert outcome.problem is not None
    assert outcome.problem.startswith("the loss is nan and the gradient of linear.")
    assert (state.step, state.skipped_in_a_row, state.pending_losses) == (1, 1, [])
    assert_same(dict(state.capture(keep=True, copy=True).model), dict(before.model))
