"""The recipe `adapt` takes its network, and what was chosen for this network, from the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openmae.core.decoder import DecoderConfig
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.recipes.recipe import AS_WEIGHTS
from openmae.weights.adapting import TRAINED_ALIKE, as_weights, freeze_while_decoder_is_fresh
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights, read_whole
from openmae.weights.weights import Weights

NETWORK = (
    *("backbone", "image_size", "patch_size", "channels", "width", "depth", "heads", "interpolation", "decode"),
    *("decoder_width", "decoder_depth", "decoder_heads", "normalise_target", "axis_order"),
)


def adapt(**changes: Any) -> PretrainRecipe:
    recipe = find_recipe("adapt")
    assert isinstance(recipe, PretrainRecipe)
    return replace(recipe, **changes)


def foreign(**changes: Any) -> Weights:
    """Weights of another project, of which only the network is known."""
    network = Network(backbone="vit_base_patch16_224", image_size=(224, 224), mean=(), std=(), eval_resize=512)
    return Weights(tensors={}, network=replace(network, **changes), file=Path("mae.pth"))


def trained_by(recipe: PretrainRecipe) -> Weights:
    return Weights(tensors={}, network=network_of(recipe), file=Path("ours"), recipe=recipe)


def test_an_own_run_gives_its_network_and_its_optimizer_at_a_quarter_of_the_rate(
    tiny_run: Path, tiny_recipe: PretrainRecipe, said: list[str]
) -> None:
    adapted = as_weights(adapt(), read_whole(tiny_run))
    for name in (*NETWORK, *TRAINED_ALIKE, "batch_size"):
        assert getattr(adapted, name) == getattr(tiny_recipe, name), name
    assert adapted.base_lr == pytest.approx(tiny_recipe.base_lr / 4)
    assert (adapted.epochs, adapted.warmup_epochs, adapted.name) == (100, 5, "adapt")
    assert "muon at a quarter of the rate that they were trained with" in said[-1]


def test_an_encoder_without_its_decoder_gets_the_decoder_of_its_recipe(
    tiny_run: Path, tiny_recipe: PretrainRecipe
) -> None:
    weights = read_weights(tiny_run)
    assert not weights.has_decoder
    assert network_of(as_weights(adapt(), weights)).decoder == network_of(tiny_recipe).decoder


def test_foreign_weights_give_their_network_and_leave_the_training_to_the_recipe(said: list[str]) -> None:
    decoder = DecoderConfig(width=64, depth=2, heads=4)
    weights = foreign(
        image_size=(448, 224), channels=1, decoder=decoder, normalise_target=False, axis_order="row-first"
    )
    adapted = as_weights(adapt(), weights)
    network = network_of(adapted)
    assert (network.image_size, network.channels, network.decoder) == ((448, 224), 1, decoder)
    assert (network.normalise_target, network.axis_order) == (False, "row-first")
    assert (adapted.optimizer, adapted.batch_size, adapted.base_lr) == ("adamw", 256, 1.5e-4)
    assert said == [
        "the network is that of mae.pth: vit_base_patch16_224 at 448x224 pixels, channels: 1, decoder: 2 x 64"
    ]


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [
        ("vit_base_patch16_224", DecoderConfig(width=512, depth=8, heads=16)),
        ("vit_tiny_patch16_224", DecoderConfig(width=192, depth=8, heads=3)),
    ],
)
def test_a_decoder_that_nobody_knows_is_the_published_one_but_no_wider_than_the_encoder(
    backbone: str, decoder: DecoderConfig
) -> None:
    assert network_of(as_weights(adapt(), foreign(backbone=backbone))).decoder == decoder


def test_a_field_that_is_given_stays_even_where_it_is_the_default_of_the_recipe() -> None:
    weights = foreign(image_size=(448, 448))
    assert as_weights(adapt(), weights).image_size == (448, 448)
    assert as_weights(adapt(), weights, given={"image_size"}).image_size == (224, 224)
    changed = as_weights(adapt(image_size=96, batch_size=32), trained_by(published()))
    assert (changed.image_size, changed.batch_size) == ((96, 96), 32)


def published() -> PretrainRecipe:
    recipe = find_recipe("vit-b16-800e-mm")
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def test_the_published_batch_becomes_one_for_few_images_and_the_rate_falls_with_its_root() -> None:
    adapted = as_weights(adapt(), trained_by(published()))
    assert adapted.batch_size == 256
    assert adapted.lr == pytest.approx(2.4e-3 / 4 / 4)
    assert (adapted.decay_tokens, adapted.mlp_bias_std) == (False, 1e-6)


def test_weights_that_were_adapted_already_keep_their_rate() -> None:
    once = as_weights(adapt(), trained_by(published()))
    assert as_weights(adapt(), trained_by(once)).lr == once.lr


def test_without_weights_it_is_one_sentence_and_what_to_do() -> None:
    with pytest.raises(UserError, match=r"^adapt goes on from weights and was given none; add --weights with"):
        as_weights(adapt(), None)


def test_any_other_recipe_stays_as_it_is(tiny_recipe: PretrainRecipe) -> None:
    assert as_weights(tiny_recipe, foreign()) is tiny_recipe


def test_the_encoder_is_frozen_for_a_tenth_of_the_run_only_beside_a_fresh_decoder(
    tiny_run: Path, said: list[str]
) -> None:
    whole, encoder = read_whole(tiny_run), read_weights(tiny_run)
    recipe = as_weights(adapt(epochs=30, warmup_epochs=1), whole)
    assert recipe.encoder_frozen_epochs == "auto"
    assert freeze_while_decoder_is_fresh(recipe, whole).encoder_frozen_epochs == 0
    said.clear()
    assert freeze_while_decoder_is_fresh(recipe, encoder).encoder_frozen_epochs == 3
    assert [message for message in said if "stays as it is for the first 3 of 30 epochs" in message]
    other = replace(recipe, decoder_depth=2)
    assert freeze_while_decoder_is_fresh(other, whole).encoder_frozen_epochs == 3
    given = replace(recipe, encoder_frozen_epochs=2)
    assert freeze_while_decoder_is_fresh(given, encoder) == given


def test_nothing_is_frozen_where_the_encoder_is_fresh_too(tiny_recipe: PretrainRecipe) -> None:
    recipe = replace(tiny_recipe, encoder_frozen_epochs="auto")
    assert freeze_while_decoder_is_fresh(recipe, None).encoder_frozen_epochs == 0


def test_only_adapt_takes_its_network_from_the_weights_or_freezes_an_encoder(tiny_recipe: PretrainRecipe) -> None:
    assert adapt().backbone == AS_WEIGHTS
    assert tiny_recipe.encoder_frozen_epochs == published().encoder_frozen_epochs == 0
