import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from openmae.checkpoints.names import ALARMS, LOG, METRICS
from openmae.data.batches import Batch
from openmae.recipes import PretrainRecipe
from openmae.training import trainer
from openmae.training.alarms.first_images import FirstImages, look
from openmae.training.observers import alarms as observing
from openmae.training.observers.observer import Observer
from openmae.training.pretraining import run_pretraining
from openmae.training.runs import Run
from tests.training import toy
from tests.training.toy import STEPS, Crash, assert_same_run, saving_always, toy_loss, train

pytestmark = pytest.mark.usefixtures("no_syncing")


def alarms(run: Path) -> list[dict[str, Any]]:
    file = run / ALARMS
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def jumping(at: int) -> Callable[[nn.Module, Batch], Tensor]:
    """The toy's loss, but a hundred times higher in one step."""
    calls = 0

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return toy_loss(model, batch) * (100 if calls == at else 1)

    return loss


def test_an_alarm_is_listed_and_said_and_logged(recipe: PretrainRecipe, tmp_path: Path, said: list[str]) -> None:
    train(recipe, tmp_path, loss=jumping(STEPS))
    (alarm,) = alarms(tmp_path)
    assert (alarm["step"], alarm["kind"]) == (STEPS, "spike")
    assert f"alarm at step {STEPS}: {alarm['message']}" in said
    assert alarm["message"] in (tmp_path / LOG).read_text()


def test_a_healthy_run_lists_none(recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(recipe, tmp_path)
    assert alarms(tmp_path) == []


def test_the_run_is_the_same_bit_for_bit_without(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe, tmp_path / "with")
    monkeypatch.setattr(trainer, "Alarms", lambda *_: Observer())
    train(recipe, tmp_path / "without")
    assert_same_run(tmp_path / "with", tmp_path / "without")


def test_looking_at_the_first_images_changes_no_bit_either(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[FirstImages | None] = []

    def looking(*given: Any, **named: Any) -> FirstImages | None:
        looked.append(look(*given, **named))
        return looked[-1]

    monkeypatch.setattr(observing, "look", looking)
    run_pretraining(tiny_recipe, tmp_path / "with")
    monkeypatch.setattr(trainer, "Alarms", lambda *_: Observer())
    run_pretraining(tiny_recipe, tmp_path / "without")
    assert len(looked) == 1
    assert looked[0] is not None
    assert_same_run(tmp_path / "with", tmp_path / "without")


@pytest.mark.parametrize("writes", [True, False])
def test_only_the_process_that_writes_judges(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], writes: bool
) -> None:
    open_run = Run
    monkeypatch.setattr(toy, "Run", lambda *given, **_: open_run(*given, writes=writes))
    train(recipe, tmp_path, loss=jumping(STEPS))
    assert sum("alarm at step" in message for message in said) == writes


def test_a_continued_run_does_not_repeat_what_stands(recipe: PretrainRecipe, tmp_path: Path, said: list[str]) -> None:
    longer = replace(saving_always(recipe), epochs=6)
    crash = Crash(after=14)
    jump = jumping(13)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        crash(model, batch)
        return jump(model, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(longer, tmp_path, loss=loss)
    assert [alarm["step"] for alarm in alarms(tmp_path)] == [13]
    train(longer, tmp_path, loss=jumping(2))
    assert [alarm["step"] for alarm in alarms(tmp_path)] == [13]
    assert sum("alarm at step" in message for message in said) == 1


def test_alarms_of_steps_that_are_made_again_are_dropped(recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(recipe, tmp_path, loss=jumping(STEPS))
    run = Run(tmp_path, recipe, writes=True)
    run.rewind(STEPS)
    assert len(alarms(tmp_path)) == 1
    run.rewind(STEPS - 1)
    assert alarms(tmp_path) == []
    assert [line["step"] for line in run.history.trained] == list(range(1, STEPS))
    run.close()


@pytest.fixture
def constant_images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(np.full((28, 28), 3 * number, dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def test_constant_images_are_found_in_the_first_batches(
    tiny_recipe: PretrainRecipe, constant_images: Path, tmp_path: Path
) -> None:
    run_pretraining(replace(tiny_recipe, data=str(constant_images), mean=(0.2,), std=(0.1,)), tmp_path / "run")
    (alarm,) = alarms(tmp_path / "run")
    assert alarm["kind"] == "constant"
    assert alarm["message"].startswith("40 of the first 40 images have one value")


def test_wrong_statistics_are_found_in_the_first_batches(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    run_pretraining(replace(tiny_recipe, mean=(0.9,), std=(0.02,), normalize="recipe"), tmp_path / "run")
    assert [alarm["kind"] for alarm in alarms(tmp_path / "run")] == ["statistics"]
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert "epoch" in lines[-1]
