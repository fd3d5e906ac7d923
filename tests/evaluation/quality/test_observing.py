"""Quality is measured while a network is trained, and the training is the same with it and without."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from openmae.checkpoints.checkpoint import list_checkpoints
from openmae.checkpoints.names import ENCODER, METRICS
from openmae.evaluation.quality.observing import Quality, observe_quality, sentence
from openmae.recipes import PretrainRecipe
from openmae.recipes.values import Every
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.pretraining import Pretraining, run_pretraining
from openmae.training.state import TrainState

SECONDS = "quality/seconds"


@pytest.fixture
def recipe(tiny_recipe: PretrainRecipe) -> PretrainRecipe:
    """Two epochs of three steps, every one of them logged, and quality after each epoch."""
    return replace(tiny_recipe, log_every=1, quality_every=1)


def lines(run: Path, key: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != SECONDS} for record in records if key in record]


def losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in lines(run, "loss")]


def tensors(run: Path) -> dict[str, Tensor]:
    """Every tensor of the exported encoder and of the last checkpoint: weights, decoder and optimizer."""
    files = [run / ENCODER, *list_checkpoints(run / "checkpoints")[0].glob("*.safetensors")]
    return {f"{file.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_training(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_losses_weights_and_optimizer_are_bit_identical_with_quality_and_without(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    run_pretraining(recipe, tmp_path / "without")
    run_pretraining(recipe, tmp_path / "with", observers=[observe_quality])
    run_pretraining(replace(recipe, quality_every=0), tmp_path / "off", observers=[observe_quality])
    assert [record["step"] for record in lines(tmp_path / "with", "quality/loss")] == [3, 6]
    assert lines(tmp_path / "off", "quality/loss") == []
    assert_same_training(tmp_path / "without", tmp_path / "with")
    assert_same_training(tmp_path / "without", tmp_path / "off")


class Witness(Observer):
    """Compares everything that training depends on before and after a measurement."""

    def __init__(self, training: Pretraining) -> None:
        self.quality = observe_quality(training)
        self.model: Any = None

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        before = self.all_of(state)
        self.quality.stepped(state, outcome, wanted=wanted)
        assert self.all_of(state) == before

    def all_of(self, state: TrainState) -> Any:
        return (
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),
            [part.training for part in state.wrapped.modules()],
            [(p.requires_grad, p.grad, p.tolist()) for p in state.model.parameters()],
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
        )


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"precision": "64-true"}, {"precision": "bf16-mixed"}])
def test_a_measurement_leaves_weights_modes_and_random_states_as_they_are(
    recipe: PretrainRecipe, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run_pretraining(replace(recipe, epochs=1, warmup_epochs=0, **changes), tmp_path, observers=[Witness])
    assert len(lines(tmp_path, "quality/loss")) == 1


@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_run_that_is_stopped_and_continued_has_the_same_losses_weights_and_quality(
    recipe: PretrainRecipe, tmp_path: Path, after: int
) -> None:
    """Step 3 ends an epoch: the run ends between the checkpoint and the measurement, which is made up for."""
    recipe = replace(recipe, save_every=Every(1, "steps"))

    class Crash(Observer):
        def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
            if state.step == after:
                raise RuntimeError("power cut")

    run_pretraining(recipe, tmp_path / "straight", observers=[observe_quality])
    with pytest.raises(RuntimeError, match="power cut"):
        run_pretraining(recipe, tmp_path / "died", observers=[lambda _: Crash(), observe_quality])
    assert len(lines(tmp_path / "died", "quality/loss")) == (after > 3)
    run_pretraining(recipe, tmp_path / "died", observers=[observe_quality])
    assert_same_training(tmp_path / "straight", tmp_path / "died")
    assert lines(tmp_path / "straight", "quality/loss") == lines(tmp_path / "died", "quality/loss")
    for picture in ("step-00000003.png", "step-00000006.png"):
        one, other = (tmp_path / run / "samples" / picture for run in ("straight", "died"))
        assert one.read_bytes() == other.read_bytes()


def test_the_figures_are_logged_said_and_drawn(recipe: PretrainRecipe, tmp_path: Path, said: list[str]) -> None:
    run_pretraining(recipe, tmp_path, observers=[observe_quality])
    first, last = lines(tmp_path, "quality/loss")
    assert {"step", "epoch", "samples", "quality/knn", "quality/probe", "quality/rank"} <= first.keys()
    assert (last["epoch"], last["samples"], last["quality/held_out"]) == (2.0, 240, 1.0)
    assert last["quality/loss"] < first["quality/loss"]
    assert last["quality/nearest"] == first["quality/nearest"], "the images and masks are the same"
    assert (
        "quality after every epoch: 40 images of test, which is held out; classes by 120 labelled training images"
        in said
    )
    assert [line.split(":")[0] for line in said if "trivial" in line] == ["epoch 1", "epoch 2"]
    about = json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert about == {"rows": 6, "cell": [112, 112], "columns": ["original", "masked", "reconstruction"]}
    with Image.open(tmp_path / "samples" / "step-00000006.png") as picture:
        assert picture.size == (3 * 112, 6 * 112)


def test_going_back_to_a_checkpoint_forgets_later_figures_and_pictures(recipe: PretrainRecipe, tmp_path: Path) -> None:
    made: list[Quality] = []

    def keep(training: Pretraining) -> Observer:
        made.append(Quality(training))
        return made[-1]

    run_pretraining(recipe, tmp_path, observers=[keep])
    assert len(list((tmp_path / "samples").glob("*.png"))) == 2
    state = TrainState.__new__(TrainState)
    state.step = 0
    made[0].started(state)
    assert list((tmp_path / "samples").glob("*.png")) == []


def test_the_sentence_names_what_was_measured_and_only_that() -> None:
    figures = {"quality/loss": 0.41, "quality/own_mean": 1.0, "quality/nearest": 0.83, "quality/smooth": 0.62}
    assert sentence(figures, highest_rank=192) == "quality: loss 0.410; trivial 1.00 / 0.83 / 0.62"
    figures |= {"quality/rank": 43.2, "quality/knn": 61.24}
    assert sentence(figures, highest_rank=192).endswith("0.62; rank 43 of 192; kNN 61.2")
