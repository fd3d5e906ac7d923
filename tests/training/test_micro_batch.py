"""`--batch-size auto`: the fewest accumulation steps that fit, and the same ones when a run goes on."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.recipes.saved import from_yaml
from openmae.training import micro_batch
from openmae.training.memory import Memory, cost_of, memory_of
from openmae.training.micro_batch import Division, divisions, fit_accumulation
from openmae.training.optimizers import build_optimizer
from openmae.training.pretraining import run_pretraining
from openmae.verbs import pretrain


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def memory(recipe: PretrainRecipe) -> Memory:
    return memory_of(recipe, cost_of(recipe, "32-true"), precision="32-true")


def free(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    monkeypatch.setattr(micro_batch, "memory_at_hand", lambda: available)


def test_a_batch_that_fits_is_taken_whole(
    tiny_recipe: PretrainRecipe, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    free(monkeypatch, memory(tiny_recipe).total(40))
    assert fit_accumulation(fabric, tmp_path, tiny_recipe) == tiny_recipe
    assert said == ["a batch of 40 is taken whole: it fits into memory"]


def test_the_fewest_steps_that_fit_are_taken_and_the_batch_stays(
    tiny_recipe: PretrainRecipe, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    free(monkeypatch, memory(tiny_recipe).total(19))  # 20 would need 2 steps, so it is 4 of 10
    fitted = fit_accumulation(fabric, tmp_path, tiny_recipe)
    assert (fitted.batch_size, fitted.accumulate) == (40, 4)
    assert "10 images at a time" in said[-1]


def test_no_memory_for_one_image_is_an_error(
    tiny_recipe: PretrainRecipe, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, memory(tiny_recipe).total(1) - 1)
    with pytest.raises(UserError, match="no memory to train vit_tiny_patch16_224 on even 1 images"):
        fit_accumulation(fabric, tmp_path, tiny_recipe)


def test_on_a_gpu_numbers_are_tried_until_one_does_not_run_out_of_memory(
    tiny_recipe: PretrainRecipe, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def step(_: Fabric, recipe: PretrainRecipe, images: int) -> None:
        tried.append(images)
        if images > 8:
            raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(micro_batch, "_make_step", step)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: None)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # of all that the tests before have left, four times
    fits = micro_batch._trial(fabric, tiny_recipe)
    assert next(one for one in divisions(40, processes=1, repeats=1) if fits(one)) == Division(5, 8)
    assert tried == [40, 20, 10, 8]


def test_the_step_of_a_gpus_trial_trains_the_network(
    tiny_recipe: PretrainRecipe, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def counted(recipe: PretrainRecipe, model: torch.nn.Module) -> torch.optim.Optimizer:
        optimizer = build_optimizer(recipe, model)
        step = optimizer.step

        def counting() -> None:
            step()
            steps.append(len(optimizer.state))

        monkeypatch.setattr(optimizer, "step", counting)
        return optimizer

    monkeypatch.setattr(micro_batch, "build_optimizer", counted)
    micro_batch._make_step(fabric, tiny_recipe, 2)
    assert len(steps) == 2
    assert steps[0] > 0


def test_a_run_that_goes_on_keeps_the_steps_that_it_began_with(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(tiny_recipe, epochs=1)
    free(monkeypatch, memory(recipe).total(20))
    run_pretraining(recipe, tmp_path, fits_memory=True)
    recorded = from_yaml((tmp_path / "recipe.yaml").read_text())
    assert (recorded.batch_size, recorded.accumulate) == (40, 2)
    (tmp_path / "results.json").unlink()
    free(monkeypatch, memory(recipe).total(40))
    run_pretraining(recipe, tmp_path, fits_memory=True)
    assert from_yaml((tmp_path / "recipe.yaml").read_text()).accumulate == 2


def test_from_python_an_automatic_batch_is_a_word_too(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, memory(tiny_recipe).total(10))
    pretrain(tiny_recipe, out=tmp_path, epochs=1, batch_size="auto")
    recorded = from_yaml((tmp_path / "recipe.yaml").read_text())
    assert (recorded.batch_size, recorded.accumulate) == (40, 4)
    with pytest.raises(UserError, match="--batch-size auto chooses --accumulate"):
        pretrain(tiny_recipe, out=tmp_path / "two", batch_size="auto", accumulate=2)


def test_divisions_give_every_process_whole_images_and_all_repeats() -> None:
    assert divisions(24, processes=2, repeats=3) == [Division(1, 12), Division(2, 6), Division(4, 3)]
    with pytest.raises(UserError, match="a batch of 25 cannot be shared by 2 devices; use --batch-size 24"):
        divisions(25, processes=2, repeats=1)
