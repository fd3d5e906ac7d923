"""A trial of a run: what it says follows from what it timed, and the run is left as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from openmae.data.sources import Source, open_data
from openmae.recipes import PretrainRecipe
from openmae.training import trial, trial_size
from openmae.training.memory import cost_of, memory_of
from openmae.training.pretraining import run_pretraining
from openmae.training.trial import Speed, Trial, run_trial

TRIED = Trial(
    device="CPU",
    threads=1,
    workers=0,
    seconds=1.0,
    images_at_once=8,
    first=Speed(seconds_per_image=0.02, update=0.5, waiting=0.3),
    later=Speed(seconds_per_image=0.01, update=0.5, waiting=0.05),
    held=True,
    loader_images_per_second=100.0,
    fits=True,
    peak_memory=None,
)


@pytest.fixture
def source(small_fashion: Path) -> Source:
    return open_data(str(small_fashion)).train


def test_the_first_epoch_counts_once_and_a_step_changes_the_weights_once() -> None:
    # 3 steps of 100 images: 3 x (100 x 0.02 + 0.5), then 4 epochs of 3 x (100 x 0.01 + 0.5).
    assert TRIED.run_seconds(images=100, steps_per_epoch=3, epochs=5) == pytest.approx(3 * 2.5 + 4 * 3 * 1.5)


def test_the_limit_is_memory_before_data_before_computing() -> None:
    assert TRIED.limited_by == "compute"
    starved = replace(TRIED, later=replace(TRIED.later, waiting=0.4))
    assert starved.limited_by == "data"
    assert replace(starved, fits=False).limited_by == "memory"


@pytest.mark.parametrize("hold", [True, False])
def test_a_trial_runs_loader_and_steps(tiny_recipe: PretrainRecipe, source: Source, hold: bool) -> None:
    found = run_trial(replace(tiny_recipe, hold=hold, pixel_type="uint8"), source, seconds=0.4)
    assert (found.device, found.workers, found.held, found.fits) == ("CPU", 0, hold, True)
    assert 1 <= found.images_at_once <= tiny_recipe.batch_size
    for speed in (found.first, found.later):
        assert speed.seconds_per_image > 0
        assert speed.update > 0
        assert 0 < speed.waiting < 1, "without workers every step decodes its own images"
    assert found.loader_images_per_second > 0
    assert (found.first == found.later) is not hold


def test_steps_are_as_large_as_the_recipes_where_time_permits(
    tiny_recipe: PretrainRecipe, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "STEPS_WANTED", 1e-6)
    whole = run_trial(tiny_recipe, source, seconds=0.1)
    halves = run_trial(replace(tiny_recipe, accumulate=2), source, seconds=0.1)
    assert (whole.images_at_once, halves.images_at_once) == (40, 20)
    monkeypatch.setattr(trial, "STEPS_WANTED", 1e9)
    assert run_trial(replace(tiny_recipe, repeats=2), source, seconds=0.1).images_at_once == 2


def test_a_trial_takes_no_more_images_at_once_than_memory_holds(
    tiny_recipe: PretrainRecipe, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "STEPS_WANTED", 1e-6)
    monkeypatch.setattr(trial_size, "memory_at_hand", lambda: _for_images(tiny_recipe, 4))
    found = run_trial(tiny_recipe, source, seconds=0.1)
    assert (found.images_at_once, found.fits, found.limited_by) == (4, False, "memory")


def _for_images(recipe: PretrainRecipe, images: int) -> int:
    return memory_of(recipe, cost_of(recipe, "32-true"), precision="32-true").total(images)


def test_a_run_after_a_trial_is_the_same_to_the_bit(
    tiny_recipe: PretrainRecipe, tiny_run: Path, source: Source, tmp_path: Path
) -> None:
    run_trial(tiny_recipe, source, seconds=0.1)
    torch.rand(3)
    run_pretraining(tiny_recipe, tmp_path)
    ours, theirs = (load_file(run / "encoder.safetensors") for run in (tmp_path, tiny_run))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
