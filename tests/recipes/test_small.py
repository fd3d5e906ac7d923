import io

import numpy as np
import pytest
from PIL import Image

from openmae.data.sources import open_data
from openmae.recipes import RECIPES, FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe

FAMILIES = ["fashion-mnist", "cifar10"]
NETWORK = ("data", "backbone", "image_size", "patch_size", "channels", "width", "depth", "heads", "mean", "std")


def family(name: str) -> tuple[PretrainRecipe, LinearRecipe, FinetuneRecipe]:
    pretrain, linear, finetune = RECIPES[name], RECIPES[f"{name}-linear"], RECIPES[f"{name}-finetune"]
    assert isinstance(pretrain, PretrainRecipe)
    assert isinstance(linear, LinearRecipe)
    assert isinstance(finetune, FinetuneRecipe)
    return pretrain, linear, finetune


def test_each_small_data_set_has_a_recipe_for_every_stage_and_no_published_figure() -> None:
    small = {name: recipe for name, recipe in RECIPES.items() if recipe.follows == "openmae"}
    assert set(small) >= {recipe.name for name in FAMILIES for recipe in family(name)}
    assert {recipe.published_top1 for recipe in small.values()} == {None}
    assert {recipe.published_by for recipe in small.values()} == {None}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_measuring_recipes_have_the_network_and_the_data_of_pretraining(name: str) -> None:
    pretrain, *measuring = family(name)
    for recipe in measuring:
        for field in NETWORK:
            assert getattr(recipe, field) == getattr(pretrain, field), field


@pytest.mark.parametrize("name", FAMILIES)
def test_small_images_are_evaluated_whole(name: str) -> None:
    _, linear, finetune = family(name)
    assert linear.resized_to == min(linear.image_size)
    assert finetune.resized_to == min(finetune.image_size)


def test_cifar10_has_patches_of_4_in_32_by_32_colour_images() -> None:
    recipe, _, _ = family("cifar10")
    assert (recipe.image_size, recipe.patch_size, recipe.channels, recipe.data) == ((32, 32), 4, 3, None)
    # Statistics of the 50,000 training images.
    assert recipe.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    assert recipe.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-3)


def test_fashion_mnist_has_the_statistics_and_the_size_of_the_bundled_images() -> None:
    recipe, _, _ = family("fashion-mnist")
    assert recipe.data == "fashion-mnist"
    source = open_data(recipe.data).train
    images = np.stack([np.asarray(Image.open(io.BytesIO(source.read(index)))) for index in range(len(source))]) / 255
    assert recipe.channels == 1
    assert images.shape[1:] == recipe.image_size
    assert recipe.mean[0] == pytest.approx(images.mean(), abs=2e-3)
    assert recipe.std[0] == pytest.approx(images.std(), abs=2e-3)


@pytest.mark.parametrize("recipe", [recipe for name in FAMILIES for recipe in family(name)], ids=lambda r: r.name)
def test_a_small_recipe_warms_up_within_its_epochs_and_cuts_whole_patches(recipe: Recipe) -> None:
    assert recipe.warmup_epochs < recipe.epochs
    assert recipe.patch_size is not None
    assert [side % recipe.patch_size for side in recipe.image_size] == [0, 0]
    assert recipe.width is not None
    assert recipe.heads is not None
    assert recipe.width % (4 * recipe.heads) == 0
