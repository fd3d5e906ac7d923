"""A plan beside the run that it is of."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openmae.cli import main
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.reporting.plan import planning
from openmae.reporting.plan.result import PlanResult
from openmae.training.memory import cost_of, memory_of
from openmae.training.pretraining import run_pretraining
from openmae.verbs import plan


@pytest.fixture(scope="module")
def planned(tiny_recipe: PretrainRecipe) -> PlanResult:
    return plan(tiny_recipe, trial_seconds=0.2, price=2.5, gpu=("h100", "RTX 4090"))


def test_a_plan_knows_the_length_of_the_run(planned: PlanResult, tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    lines = (tiny_run / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    run = planned["run"]
    assert run is not None
    assert (run["steps"], run["samples"], run["lr"]) == (last["step"], last["samples"], tiny_recipe.lr)
    assert run["flop"] == run["samples"] * planned["network"]["training_flop"]


def test_a_plan_knows_the_disk_that_the_run_takes(planned: PlanResult, tiny_run: Path) -> None:
    checkpoints = [
        sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        for folder in (tiny_run / "checkpoints").iterdir()
        if (folder / "optimizer.safetensors").stat().st_size > 1000
    ]
    encoder = (tiny_run / "encoder.safetensors").stat().st_size
    # Headers of the files come on top, which are a part only of a network as small as this one.
    assert 0.75 < planned["disk"]["encoder"] / encoder <= 1
    assert 0.6 < planned["disk"]["checkpoint"] / max(checkpoints) <= 1


def test_hours_and_cost_follow_from_the_trial(planned: PlanResult) -> None:
    here, run = planned["here"], planned["run"]
    assert here is not None
    assert run is not None
    assert here["hours"] == pytest.approx(run["samples"] / here["images_per_second"] / 3600)
    assert here["cost"] == pytest.approx(2.5 * here["hours"])


def test_a_gpu_is_as_fast_as_the_assumed_share_of_its_peak_but_no_pass_takes_less_than_10_ms() -> None:
    large = plan("vit-b16-800e", depth=3, decoder_depth=2, gpu=("A100",), devices=8, price=2)
    (gpu,) = large["gpus"]
    assert gpu["images_per_second"] == pytest.approx(8 * 0.4 * 312e12 / large["network"]["training_flop"])
    assert gpu["hours"] == pytest.approx(249_600 * 4096 / gpu["images_per_second"] / 3600)
    assert gpu["cost"] == pytest.approx(2 * 8 * (gpu["hours"] or 0))
    assert (gpu["images_at_once"], gpu["accumulate"]) == (512, 1)
    (small,) = plan("fashion-mnist", depth=1, gpu=("A100",), trial_seconds=0)["gpus"]
    assert small["images_per_second"] == pytest.approx(64 / 0.010)


def test_gpus_are_found_however_they_are_written_and_others_are_refused(planned: PlanResult) -> None:
    assert [one["name"] for one in planned["gpus"]] == ["H100", "RTX-4090"]
    with pytest.raises(UserError, match="no data sheet of a GPU called 'TPU' is known; use one of A100,"):
        plan("cifar10", gpu=("TPU",))


def test_without_data_published_recipes_take_imagenet_and_others_have_no_length() -> None:
    run = plan("vit-b16-300e", depth=1, decoder_depth=1, trial_seconds=0)["run"]
    assert run is not None
    assert (run["images"], run["images_assumed"]) == (1_281_167, True)
    unknown = plan("cifar10", depth=1, trial_seconds=0)
    assert (unknown["run"], unknown["here"], unknown["proposals"]) == (None, None, [])
    given = plan("cifar10", depth=1, images=50_000, epochs=20)["run"]
    assert given is not None
    assert (given["steps"], given["images_assumed"]) == (20 * (50_000 // 64), False)


def test_a_plan_cuts_the_batch_as_the_run_will(tiny_recipe: PretrainRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(tiny_recipe, data=None)
    memory = memory_of(recipe, cost_of(recipe, "32-true"), precision="32-true")
    monkeypatch.setattr(planning, "memory_at_hand", lambda: memory.total(10))
    cut = plan(recipe, images=120, batch_size="auto")
    assert cut["run"] is not None
    assert cut["run"]["accumulate"] == 4
    assert "memory" not in {one["kind"] for one in cut["cautions"]}
    whole = plan(tiny_recipe, trial_seconds=0)
    (caution,) = [one["message"] for one in whole["cautions"] if one["kind"] == "memory"]
    assert "40 images at once need 0.7 GB" in caution
    assert caution.endswith("use --batch-size auto, or --accumulate 4")


def test_what_the_run_would_refuse_the_plan_refuses(tiny_recipe: PretrainRecipe) -> None:
    with pytest.raises(UserError, match="--images stands for data that are not at hand"):
        plan(tiny_recipe, images=3)
    with pytest.raises(UserError, match="cannot be cut into 3 accumulation steps on 1 devices; use --accumulate 2"):
        plan(tiny_recipe, accumulate=3, trial_seconds=0)
    with pytest.raises(UserError, match="add --weights"):
        plan("adapt")


def test_a_plan_writes_nothing(tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan(tiny_recipe, trial_seconds=0.1)
    assert list(tmp_path.iterdir()) == []


def test_the_shell_shows_tables_and_json(
    small_fashion: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = ["plan", "fashion-mnist", "--data", str(small_fashion), "--trial-seconds", "0.2", "--epochs", "100"]
    assert main([*words, "--depth", "1", "--workers", "0", "--decoder-depth", "1", "--price", "3"]) == 0
    shown = capsys.readouterr().out
    for part in ("parameters", "On this machine (CPU", "On a GPU, computed", "How many epochs for 120 images?"):
        assert part in shown
    assert "warning: the whole run makes 100 steps" in " ".join(shown.split())
    assert main([*words[:-4], "--trial-seconds", "0", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(result) == set(PlanResult.__annotations__)
    assert result["here"] is None


def test_the_run_can_follow_with_the_same_flags(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    changed = plan(tiny_recipe, epochs=1, batch_size=20, trial_seconds=0)["run"]
    assert changed is not None
    results = run_pretraining(replace(tiny_recipe, epochs=1, batch_size=20), tmp_path)
    assert results["samples"] == changed["samples"]
