import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openmae.recipes import PretrainRecipe
from openmae.training import runtime
from openmae.training.runtime import choose_precision, choose_workers, pick_device, start_fabric


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, emulated: bool = False) -> None:
    """A GPU that computes in bf16, only emulates it, or neither."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or (emulated and including_emulation)
    )


def test_bf16_where_the_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe) -> None:
    pretend_gpu(monkeypatch, bf16=True)
    assert choose_precision(tiny_recipe) == "bf16-mixed"


@pytest.mark.parametrize("emulated", [False, True])
def test_single_precision_where_the_gpu_has_no_bf16_or_only_emulates_it(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe, emulated: bool
) -> None:
    pretend_gpu(monkeypatch, bf16=False, emulated=emulated)
    assert choose_precision(tiny_recipe) == "32-true"


def test_single_precision_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe) -> None:
    pretend_gpu(monkeypatch, bf16=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision(tiny_recipe) == "32-true"


def test_a_precision_that_the_recipe_names_is_taken(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe
) -> None:
    pretend_gpu(monkeypatch, bf16=True)
    assert choose_precision(replace(tiny_recipe, precision="16-mixed")) == "16-mixed"


def test_workers_are_the_recipes_or_one_less_than_the_processors(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    assert choose_workers(replace(tiny_recipe, workers=0)) == 0
    assert choose_workers(replace(tiny_recipe, workers=3)) == 3
    assert choose_workers(replace(tiny_recipe, workers=None)) == 4


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_measurements_run_on_the_gpu_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, available: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device() == torch.device(expected)


@pytest.mark.parametrize(("local_world_size", "expected"), [(None, 3), ("8", 8)])
def test_torchrun_decides_the_number_of_devices_else_the_recipe_does(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe, local_world_size: str | None, expected: int
) -> None:
    seen: dict[str, Any] = {}

    def fake_fabric(**options: Any) -> SimpleNamespace:
        seen.update(options)
        return SimpleNamespace(launch=lambda: seen.update(launched=True))

    monkeypatch.setattr(runtime, "Fabric", fake_fabric)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local_world_size is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_world_size)
    start_fabric(replace(tiny_recipe, devices=3, nodes=2, precision="32-true"))
    assert (seen["devices"], seen["num_nodes"], seen["precision"]) == (expected, 2, "32-true")
    assert seen["launched"]
