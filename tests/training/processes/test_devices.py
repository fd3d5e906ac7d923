import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

from openmae.recipes import PretrainRecipe
from openmae.training.processes import devices
from openmae.training.processes.devices import choose_precision, choose_workers, numerics, pick_device, start_fabric


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


def fabric_options(monkeypatch: pytest.MonkeyPatch, recipe: PretrainRecipe, **environment: str) -> dict[str, Any]:
    """What lightning-fabric is asked for, in a process with these variables."""
    seen: dict[str, Any] = {}

    def fake_fabric(**options: Any) -> SimpleNamespace:
        seen.update(options)
        return SimpleNamespace(launch=lambda: seen.update(launched=True), is_global_zero=True)

    monkeypatch.setattr(devices, "Fabric", fake_fabric)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start_fabric(recipe)
    assert seen["launched"]
    return seen


def test_who_starts_the_processes_decides_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe
) -> None:
    environment = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
    seen = fabric_options(monkeypatch, replace(tiny_recipe, devices=3, precision="32-true"), **environment)
    assert (seen["devices"], seen["num_nodes"], seen["precision"]) == (8, 2, "32-true")
    assert isinstance(seen["strategy"], DDPStrategy)


def test_the_recipe_says_how_many_processes_there_are_when_the_launcher_does_not(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe
) -> None:
    recipe = replace(tiny_recipe, devices=3, nodes=2, strategy="fsdp")
    seen = fabric_options(monkeypatch, recipe, SLURM_NTASKS="6", SLURM_JOB_NAME="train")
    assert (seen["devices"], seen["num_nodes"]) == (3, 2)
    assert isinstance(seen["strategy"], ModelParallelStrategy)


def test_one_device_needs_no_strategy(monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe) -> None:
    assert fabric_options(monkeypatch, tiny_recipe)["strategy"] == "auto"


@pytest.mark.parametrize("job", [None, "interactive"])
def test_several_devices_want_a_process_each(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: PretrainRecipe, job: str | None
) -> None:
    if job is not None:  # a terminal session of Slurm's is no job step
        monkeypatch.setenv("SLURM_NTASKS", "4")
        monkeypatch.setenv("SLURM_JOB_NAME", job)
    with pytest.raises(ValueError, match="4 devices need a process each; use the command line"):
        start_fabric(replace(tiny_recipe, devices=2, nodes=2))


def test_where_slurm_is_installed_a_plain_process_is_not_warned_about_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.join_processes(accelerator="cpu").world_size == 1  # warnings are errors here


def test_versions_and_hardware_that_decide_the_last_bits_are_described() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    described = numerics(fabric)
    assert described["threads"] == torch.get_num_threads()
    assert described["processes"] == 1
    assert described["torch"] == torch.__version__
    assert "CPU" in described["device"]
