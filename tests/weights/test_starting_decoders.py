"""A pre-training that goes on from another one takes its decoder along, where it is the same network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from openmae.recipes import PretrainRecipe
from openmae.recipes.values import ImageSize
from openmae.training.pretraining import run_pretraining
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights, read_whole
from openmae.weights.starting import start_decoder_from


@pytest.mark.parametrize("changes", [{}, {"mask_ratio": 0.5}, {"image_size": ImageSize(56, 28)}])
def test_the_decoder_is_taken_along_at_any_image_size_and_mask_ratio(
    tiny_run: Path, tiny_recipe: PretrainRecipe, changes: dict[str, Any]
) -> None:
    recipe, weights = replace(tiny_recipe, **changes), read_whole(tiny_run)
    model = network_of(recipe).build_autoencoder()
    positions = model.decoder.pos_embed.clone()
    assert start_decoder_from(model, network_of(recipe), weights) == f"the decoder of {weights.file} is taken along"
    for name, tensor in model.decoder.state_dict().items():
        assert torch.equal(tensor, positions if name == "pos_embed" else weights.tensors[f"decoder.{name}"]), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"decoder_depth": 2}, "depth 1 there, 2 here"),
        ({"decoder_width": 16, "decoder_heads": 1}, "width 32 there, 16 here, heads 2 there, 1 here"),
        ({"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3}, "channels 1 there, 3 here"),
        ({"normalise_target": True}, "normalise_target False there, True here"),
        ({"axis_order": "row-first"}, "axis_order column-first there, row-first here"),
    ],
)
def test_another_decoder_starts_fresh_with_the_reason(
    tiny_run: Path, tiny_recipe: PretrainRecipe, changes: dict[str, Any], reason: str
) -> None:
    network = network_of(replace(tiny_recipe, **changes))
    model = network.build_autoencoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = read_whole(tiny_run)
    said = start_decoder_from(model, network, weights)
    assert said == f"the decoder starts fresh: that of {weights.file} is another one ({reason})"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_without_a_decoder_say_so(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    network, weights = network_of(tiny_recipe), read_weights(tiny_run)
    said = start_decoder_from(network.build_autoencoder(), network, weights)
    assert said == f"the decoder starts fresh: {weights.file} has none"


def test_a_pre_training_goes_on_with_encoder_and_decoder_and_says_so(
    tiny_run: Path, tiny_recipe: PretrainRecipe, tmp_path: Path, said: list[str]
) -> None:
    fresh = run_pretraining(replace(tiny_recipe, epochs=1, base_lr=0.0), tmp_path / "fresh")
    recipe = replace(tiny_recipe, epochs=1, base_lr=0.0, weights=str(tiny_run))
    results = run_pretraining(recipe, tmp_path / "on")
    assert [message for message in said if "taken along" in message]
    went_on, before = read_whole(tmp_path / "on"), read_whole(tiny_run)
    assert went_on.digest == before.digest
    assert results["loss"] < fresh["loss"]
