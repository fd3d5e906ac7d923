"""Pre-training that goes on from weights with `adapt`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import openmae
from openmae.checkpoints.checkpoint import list_checkpoints
from openmae.checkpoints.names import ENCODER, RECIPE
from openmae.checkpoints.reading import read_checkpoint
from openmae.errors import UserError
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.recipes import FinetuneRecipe, PretrainRecipe, find_recipe
from openmae.recipes.saved import from_yaml
from openmae.recipes.values import Every, ImageSize
from openmae.training.optimizers import build_optimizer
from openmae.training.pretraining import run_pretraining
from openmae.weights.formats import fair
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights, read_whole
from tests.training.test_pretraining import assert_same_run, crash_after
from tests.weights.formats.samples import DECODER, NETWORK, save_as_fair, weights_of, with_decoder
from tests.weights.formats.test_use import fair_file, huggingface_folder, mm_file, timm_folder

pytestmark = pytest.mark.usefixtures("no_syncing")

Make = Callable[[Path], Path]


def adapt(data: Path, weights: Path, **changes: Any) -> PretrainRecipe:
    """`adapt` with two epochs of three steps."""
    recipe = find_recipe("adapt")
    assert isinstance(recipe, PretrainRecipe)
    common: dict[str, Any] = {"epochs": 2, "warmup_epochs": 0, "batch_size": 40, "workers": 0, "log_every": 1}
    return replace(recipe, data=str(data), weights=str(weights), **{**common, **changes})


def encoder_of(run: Path) -> dict[str, Tensor]:
    return load_file(run / ENCODER)


def recipe_of(run: Path) -> PretrainRecipe:
    recipe = from_yaml((run / RECIPE).read_text())
    assert isinstance(recipe, PretrainRecipe)
    return recipe


@pytest.mark.parametrize(
    ("make", "with_decoder", "axis_order"),
    [
        (fair_file, True, "column-first"),
        (mm_file, True, "row-first"),
        (huggingface_folder, True, "column-first"),
        (timm_folder, False, "column-first"),
    ],
)
def test_weights_of_any_layout_go_on_as_the_network_that_they_are(
    make: Make, with_decoder: bool, axis_order: str, tmp_path: Path, small_fashion: Path
) -> None:
    file = make(tmp_path)
    smaller = {} if with_decoder else {"decoder_depth": 1}  # than the published one, which is slow
    run_pretraining(adapt(small_fashion, file, epochs=1, base_lr=0.0, **smaller), tmp_path / "run")
    recipe, before = recipe_of(tmp_path / "run"), read_whole(file)
    assert network_of(recipe).architecture == before.network.architecture
    assert (recipe.image_size, recipe.channels, recipe.axis_order) == ((28, 28), 1, axis_order)
    assert recipe.encoder_frozen_epochs == (0 if with_decoder else 0.1)
    after = read_whole(tmp_path / "run")
    for name, tensor in before.tensors.items():
        assert torch.equal(after.tensors[name if with_decoder else f"encoder.{name}"], tensor), name


def test_the_saved_recipe_names_the_network_and_continues_the_run(
    tiny_run: Path, small_fashion: Path, tmp_path: Path, said: list[str]
) -> None:
    asked = adapt(small_fashion, tiny_run, epochs=1)
    results = run_pretraining(asked, tmp_path)
    assert recipe_of(tmp_path).backbone == "vit_tiny_patch16_224"
    for again in (asked, recipe_of(tmp_path)):
        said.clear()
        assert run_pretraining(again, tmp_path) == results
        assert "already finished" in said[-1]


def test_the_verb_keeps_a_given_value_that_is_the_default_of_the_recipe(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    assert not read_whole(tiny_run).network.normalise_target
    openmae.pretrain(
        "adapt", weights=tiny_run, data=small_fashion, out=tmp_path, epochs=1, workers=0, normalise_target=True
    )
    assert recipe_of(tmp_path).normalise_target


def test_another_image_size_and_another_number_of_channels_start_from_the_weights(
    small_fashion: Path, tmp_path: Path
) -> None:
    colour = with_decoder(NETWORK)
    file = save_as_fair(tmp_path / "mae_pretrain_full.pth", fair.tensors_to(weights_of("autoencoder", colour)))
    recipe = adapt(small_fashion, file, epochs=1, base_lr=0.0, channels=1, image_size=ImageSize(28, 20))
    run_pretraining(recipe, tmp_path / "run")
    found = recipe_of(tmp_path / "run")
    assert (found.image_size, found.channels, found.decoder_width) == ((28, 20), 1, DECODER.width)
    assert found.encoder_frozen_epochs == 0.1, "a decoder of other channels starts fresh"
    before, after = read_weights(file).encoder(), encoder_of(tmp_path / "run")
    assert torch.equal(after["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    kernel = before["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(after["patch_embed.proj.weight"], kernel)


def test_a_network_that_was_fine_tuned_on_the_mean_of_its_patches_goes_on_with_a_fresh_norm(
    tiny_run: Path, tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    finetune = find_recipe("fashion-mnist", "finetune")
    assert isinstance(finetune, FinetuneRecipe)
    shape = {name: getattr(tiny_recipe, name) for name in ("data", "width", "depth", "heads")}
    run_finetune(
        replace(finetune, **shape, weights=str(tiny_run), epochs=1, warmup_epochs=0, workers=0), tmp_path / "tuned"
    )
    recipe = adapt(Path(str(tiny_recipe.data)), tmp_path / "tuned", epochs=1, base_lr=0.0, decoder_depth=1)
    run_pretraining(recipe, tmp_path / "run")
    tuned, after = read_weights(tmp_path / "tuned").encoder(), encoder_of(tmp_path / "run")
    assert torch.equal(after["blocks.1.mlp.fc2.weight"], tuned["blocks.1.mlp.fc2.weight"])
    assert torch.equal(after["norm.weight"], torch.ones(32))


def test_a_width_that_is_given_and_not_that_of_the_weights_is_refused(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"is of another network than adapt \(width 32 instead of 64\)"):
        run_pretraining(adapt(small_fashion, tiny_run, width=64), tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_frozen_encoder_stays_the_same_to_the_bit_and_is_trained_afterwards(
    optimizer: Literal["adamw", "muon"], tiny_recipe: PretrainRecipe, tiny_run: Path, tmp_path: Path
) -> None:
    recipe = replace(
        tiny_recipe,
        weights=str(tiny_run),
        optimizer=optimizer,
        weight_decay=5.0,
        warmup_epochs=0.0,
        encoder_frozen_epochs=1.0,
        save_every=Every(1, "epochs"),
        keep_last=9,
    )
    run_pretraining(recipe, tmp_path)
    before = read_whole(tiny_run).tensors
    end, middle = (read_checkpoint(folder).model for folder in list_checkpoints(tmp_path / "checkpoints")[:2])
    for name, tensor in before.items():
        fixed = name.endswith("pos_embed")
        assert torch.equal(middle[name], tensor) == (name.startswith("encoder.") or fixed), name
        assert torch.equal(end[name], tensor) == fixed, name


def test_a_run_that_died_while_its_encoder_was_frozen_and_again_later_continues_bit_for_bit(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(tiny_recipe, encoder_frozen_epochs=1.0, log_every=1)
    run_pretraining(recipe, tmp_path / "straight")
    for _ in range(2):
        with monkeypatch.context() as patch:
            crash_after(patch, 2)
            with pytest.raises(RuntimeError, match="power cut"):
                run_pretraining(replace(recipe, save_every=Every(1, "steps")), tmp_path / "died")
    run_pretraining(recipe, tmp_path / "died")
    assert_same_run(tmp_path / "straight", tmp_path / "died")


def test_without_freezing_the_groups_of_the_optimizer_are_those_of_before(tiny_recipe: PretrainRecipe) -> None:
    model = network_of(tiny_recipe).build_autoencoder()
    plain = build_optimizer(tiny_recipe, model).param_groups
    frozen = build_optimizer(replace(tiny_recipe, encoder_frozen_epochs=1.0), model).param_groups
    assert [group for group in plain if "frozen_at_first" in group] == []
    assert len(frozen) == 2 * len(plain)
    by_name = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in frozen:
        names = [by_name[id(parameter)] for parameter in group["params"]]
        assert {name.startswith("encoder.") for name in names} == {"frozen_at_first" in group}
