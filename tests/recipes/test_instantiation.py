"""Every recipe's network, built on the meta device: shapes and parameter counts without memory or time."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from openmae.recipes import RECIPES, PretrainRecipe, Recipe, SupervisedRecipe
from openmae.recipes.recipe import AS_WEIGHTS
from openmae.weights.networks import network_of

CLASSES = 1000
NETWORK = ("backbone", "image_size", "patch_size", "channels", "width", "depth", "heads")
AUTOENCODER = (*NETWORK, "decoder_width", "decoder_depth", "decoder_heads", "axis_order", "normalise_target")
CLASSIFIER = (*NETWORK, "pool")

# Millions of parameters, as published with the table. 448 pixels need a larger position table.
PUBLISHED = {
    ("pretrain", "vit_base_patch16_224", 224): 111.91,
    ("pretrain", "vit_large_patch16_224", 224): 329.54,
    ("pretrain", "vit_huge_patch14_224", 224): 657.07,
    ("classifier", "vit_base_patch16_224", 224): 86.57,
    ("classifier", "vit_large_patch16_224", 224): 304.3,
    ("classifier", "vit_huge_patch14_224", 224): 632.0,
    ("classifier", "vit_huge_patch14_224", 448): 633.0,
}


def groups(kind: type[Recipe], decisive: tuple[str, ...]) -> list[Any]:
    """One recipe for each network that differs."""
    assert set(decisive) <= {field.name for field in fields(kind)} | {"pool"}
    found: dict[tuple[Any, ...], Recipe] = {}
    for recipe in RECIPES.values():
        if isinstance(recipe, kind) and recipe.backbone != AS_WEIGHTS:
            found.setdefault(tuple(getattr(recipe, name) for name in decisive), recipe)
    return [pytest.param(recipe, id=recipe.name) for recipe in found.values()]


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("recipe", groups(PretrainRecipe, AUTOENCODER))
def test_a_pretraining_recipe_builds_the_published_model(recipe: PretrainRecipe) -> None:
    with torch.device("meta"):
        model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert (model.geometry.size, model.channels) == (recipe.image_size, recipe.channels)
    assert model.geometry.patch == (recipe.patch_size or {"vit_huge_patch14_224": 14}.get(recipe.backbone, 16),) * 2
    if recipe.follows != "openmae":
        expected = PUBLISHED["pretrain", recipe.backbone, recipe.image_size.height]
        assert round(millions(model), 2) == expected


@pytest.mark.parametrize("recipe", groups(SupervisedRecipe, CLASSIFIER))
def test_a_measuring_recipe_builds_the_published_classifier(recipe: SupervisedRecipe) -> None:
    with torch.device("meta"):
        vit = network_of(recipe).build_encoder(
            num_classes=CLASSES, global_pool="avg" if recipe.pool == "mean" else "token"
        )
    assert isinstance(vit.head, nn.Linear)
    assert vit.head.out_features == CLASSES
    # Fine-tuning pools patches and normalises their mean; linear evaluation takes the class token after the norm.
    assert isinstance(vit.norm, nn.Identity) == (recipe.pool == "mean")
    assert isinstance(vit.fc_norm, nn.Identity) == (recipe.pool == "cls")
    if recipe.follows != "openmae":
        expected = PUBLISHED["classifier", recipe.backbone, recipe.image_size.height]
        digits = 2 if expected == 86.57 else 1
        assert round(millions(vit), digits) == expected


def test_every_published_network_is_among_those_built() -> None:
    built = {
        ("pretrain" if isinstance(recipe, PretrainRecipe) else "classifier", recipe.backbone, recipe.image_size.height)
        for recipe in RECIPES.values()
        if recipe.follows != "openmae"
    }
    assert built == set(PUBLISHED)


def test_the_published_networks_have_layer_norms_with_epsilon_1e_6() -> None:
    recipe = RECIPES["vit-b16-800e"]
    assert isinstance(recipe, PretrainRecipe)
    with torch.device("meta"):
        model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    norms = [part for part in model.modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 2 * 12 + 1 + 2 * 8 + 1
    assert {norm.eps for norm in norms} == {1e-6}
