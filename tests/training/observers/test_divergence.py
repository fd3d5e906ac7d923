import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import MODEL, OPTIMIZER, list_checkpoints
from openmae.checkpoints.names import ENCODER, METRICS, REWINDS
from openmae.data.batches import Batch, collate
from openmae.recipes import PretrainRecipe, Recipe
from openmae.recipes.values import Every
from openmae.training.observers.divergence import Diverged, Divergence, what_is_not_finite
from openmae.training.runs import Run
from tests.training.toy import STEPS, Crash, Toy, assert_same_run, metrics, saving_always, toy_loss, train, weights

pytestmark = pytest.mark.usefixtures("no_syncing")


@dataclass
class Poisoned:
    """The toy's loss, and something that is not finite in the calls that `when` says."""

    when: Callable[[int], bool]
    poison: Callable[[nn.Module, Tensor], Tensor] = lambda _, loss: loss * float("nan")
    calls: int = 0
    seen: list[list[int]] = field(default_factory=list)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        self.seen.append(batch.indices.tolist())
        loss = toy_loss(model, batch)
        return self.poison(model, loss) if self.when(self.calls) else loss


def infinite_gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """A finite loss whose gradient is not: the root of zero."""
    weight = next(model.parameters())
    return loss + (weight.flatten()[0] * 0.0).sqrt()


def spoil(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.view(-1)[0] = float("nan")


def said(path: Path) -> str:
    return (path / "log.txt").read_text()


POISONS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "loss": (lambda _, loss: loss * float("nan"), "the loss is nan and the gradient of"),
    "overflow": (lambda _, loss: loss + float("inf"), "the loss is inf"),
    "gradient": (infinite_gradient, "the gradient of dropout.weight|linear.weight is not finite"),
}


@pytest.mark.parametrize("kind", POISONS)
def test_a_step_that_is_not_finite_changes_nothing_and_is_reported(
    recipe: PretrainRecipe, tmp_path: Path, kind: str
) -> None:
    poison, expected = POISONS[kind]
    before: list[Tensor] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        before.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        return poisoned(model, batch)

    poisoned = Poisoned(lambda call: call in (4, 5), poison)
    figures = train(recipe, tmp_path, loss=loss)
    assert torch.equal(before[3], before[4])
    assert torch.equal(before[4], before[5])
    assert not torch.equal(before[5], before[6])
    assert metrics(tmp_path, "step") == list(range(1, STEPS + 1))
    assert metrics(tmp_path, "skipped_steps") == [1, 1]
    assert len(metrics(tmp_path)) == STEPS - 2
    assert "step 4 was skipped: " in said(tmp_path)
    assert any(part in said(tmp_path) for part in expected.split("|"))
    assert figures["loss"] > 0
    assert not (tmp_path / REWINDS).exists()


def test_a_good_step_between_starts_the_count_anew(recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(recipe, tmp_path, loss=Poisoned(lambda call: call in (3, 4, 6, 7)))
    assert not (tmp_path / REWINDS).exists()
    assert len(metrics(tmp_path)) == STEPS - 4


def test_three_in_a_row_go_back_to_the_last_checkpoint_with_the_images_in_another_order(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, save_every=Every(4, "steps"))
    loss = Poisoned(lambda call: call in (6, 7, 8))
    train(recipe, tmp_path, loss=loss)
    rewinds = [json.loads(line) for line in (tmp_path / REWINDS).read_text().splitlines()]
    assert [record["to"] for record in rewinds] == [4]
    assert "going back to step 4" in said(tmp_path)
    assert metrics(tmp_path, "step") == list(range(1, STEPS + 1))
    assert len(metrics(tmp_path)) == STEPS  # none of those that are left was skipped
    first, again = loss.seen[4:8], loss.seen[8:]
    assert len(again) == STEPS - 4
    assert again[:4] != first
    # Step 4 is the second of its epoch of three: what was left of it, and whole epochs afterwards.
    assert sorted(loss.seen[3] + again[0] + again[1]) == list(range(12))
    assert sorted(again[2] + again[3] + again[4]) == list(range(12))


def test_the_last_step_too_can_send_the_run_back(recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, save_every=Every(4, "steps"))
    train(recipe, tmp_path, loss=Poisoned(lambda call: call in (STEPS - 2, STEPS - 1, STEPS)))
    assert [json.loads(line)["to"] for line in (tmp_path / REWINDS).read_text().splitlines()] == [8]
    assert len(metrics(tmp_path)) == STEPS
    assert list_checkpoints(tmp_path / "checkpoints")[0].name == f"step-{STEPS:08d}"


def test_a_run_that_went_back_continues_bit_for_bit(recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, save_every=Every(4, "steps"))
    train(recipe, tmp_path / "straight", loss=Poisoned(lambda call: call in (6, 7, 8)))

    crash = Crash(10**6)
    poisoned = Poisoned(lambda call: call in (6, 7, 8))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if poisoned.calls == 10:
            raise RuntimeError("power cut")
        return poisoned(model, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, tmp_path / "crashed", loss=loss)
    train(recipe, tmp_path / "crashed", loss=crash)
    assert_same_run(tmp_path / "straight", tmp_path / "crashed")


def test_a_crash_between_two_skipped_steps_does_not_start_the_count_anew(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    poisoned = Poisoned(lambda call: call in (6, 7))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if poisoned.calls == 7:
            raise RuntimeError("power cut")
        return poisoned(model, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(saving_always(recipe), tmp_path, loss=loss)
    train(recipe, tmp_path, loss=Poisoned(lambda call: call == 1))
    assert [json.loads(line)["to"] for line in (tmp_path / REWINDS).read_text().splitlines()] == [7]


def test_after_three_rewinds_the_run_ends_with_a_diagnosis(recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, save_every=Every(4, "steps"))
    with pytest.raises(
        ValueError,
        match=r"^3 steps in a row up to step 7 were not finite \(the loss is nan and .*\), after going back 3 times; "
        r"set --clip-norm 1, or lower --base-lr \(now 1\)$",
    ):
        train(recipe, tmp_path, loss=Poisoned(lambda call: call >= 5))
    assert [json.loads(line)["to"] for line in (tmp_path / REWINDS).read_text().splitlines()] == [4, 4, 4]
    assert not (tmp_path / ENCODER).exists()
    for checkpoint in list_checkpoints(tmp_path / "checkpoints"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(checkpoint / MODEL).values())


def test_without_another_checkpoint_it_goes_back_to_the_first_weights(recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(recipe, tmp_path, loss=Poisoned(lambda call: call in (2, 3, 4)))
    assert [json.loads(line)["to"] for line in (tmp_path / REWINDS).read_text().splitlines()] == [0]
    assert len(metrics(tmp_path)) == STEPS


class Spoiled(torch.optim.AdamW):
    """An optimizer that spoils one of its tensors after the step of that number, once."""

    def __init__(self, parameters: Any, what: str, when: int) -> None:
        super().__init__(parameters, lr=1e-3)
        self.what, self.when, self.steps = what, when, 0

    def step(self, closure: Any = None) -> Any:
        super().step()
        self.steps += 1
        if self.steps == self.when:
            parameter = self.param_groups[0]["params"][0]
            spoil(parameter.data if self.what == "weights" else self.state[parameter]["exp_avg"])


@pytest.mark.parametrize("what", ["weights", "optimizer state"])
@pytest.mark.parametrize("save_every", [Every(1, "steps"), Every(4, "steps")])
def test_spoiled_weights_and_optimizer_state_are_never_saved(
    recipe: PretrainRecipe, tmp_path: Path, what: str, save_every: Every
) -> None:
    """A save may follow at once, or only after more steps."""
    recipe = replace(recipe, save_every=save_every, keep_last=20)

    def build(recipe: Recipe, model: nn.Module) -> Optimizer:
        return Spoiled(model.parameters(), what, 6)

    train(recipe, tmp_path, build=build)
    assert len((tmp_path / REWINDS).read_text().splitlines()) == 1
    for checkpoint in list_checkpoints(tmp_path / "checkpoints"):
        for name in (MODEL, OPTIMIZER):
            for tensor in load_file(checkpoint / name).values():
                assert bool(tensor.isfinite().all()), checkpoint
    assert bool(weights(tmp_path).isfinite().all())
    assert metrics(tmp_path, "step") == list(range(1, STEPS + 1))


def test_pixels_that_are_not_finite_are_named() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    images = torch.zeros(2, 1, 4, 4)
    images[1, 0, 2, 2] = float("inf")
    batch = collate([])._replace(images=images, indices=torch.tensor([7, 5]))
    assert what_is_not_finite(fabric, Toy(0.0), batch, []) == "pixels of image 5 are not finite"


def test_fp16_is_what_the_diagnosis_warns_of_first(recipe: PretrainRecipe, tmp_path: Path) -> None:
    run = Run(tmp_path, recipe, writes=True)
    try:
        divergence = Divergence(run, replace(recipe, precision="16-mixed", clip_norm=1.0))
        with pytest.raises(ValueError, match="no checkpoint; use --precision bf16-mixed rather than fp16, or lower"):
            divergence.go_back(Diverged("reason"), to=None)
    finally:
        run.close()
    assert not (tmp_path / METRICS).exists()
