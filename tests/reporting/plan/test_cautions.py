"""Each known way to fail is warned of, with a number and a remedy; a published recipe is warned of nothing."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from openmae.data.decoding import Reading
from openmae.data.sources import open_data
from openmae.recipes import RECIPES, PretrainRecipe, find_recipe
from openmae.recipes.values import ImageSize
from openmae.reporting.plan.cautions import Planned, cautions, median_short_side
from openmae.reporting.plan.published_runs import IMAGENET


def published() -> PretrainRecipe:
    recipe = find_recipe("vit-b16-800e", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def kinds(recipe: PretrainRecipe, *, images: int | None = IMAGENET, short_side: int | None = 375) -> dict[str, str]:
    fitted = recipe if images is None else replace(recipe, batch_size=min(recipe.batch_size, images * recipe.repeats))
    found = cautions(Planned(recipe, fitted, images, short_side))
    return {one["kind"]: one["message"] for one in found}


@pytest.mark.parametrize(
    "name", [one.name for one in RECIPES.values() if isinstance(one, PretrainRecipe) and one.published_top1]
)
def test_published_recipes_on_imagenet_are_warned_of_nothing(name: str) -> None:
    recipe = find_recipe(name, "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    assert kinds(recipe) == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": ImageSize(448, 448)}, "images of 448 pixels"),
        ({"patch_size": 8}, "patches of 8 pixels"),
        ({}, ""),
    ],
)
def test_half_precision_with_many_patches(fields: dict[str, Any], words: str) -> None:
    found = kinds(replace(published(), precision="16-mixed", **fields))
    assert words in found.get("fp16", "") if words else "fp16" not in found
    assert "fp16" not in kinds(replace(published(), precision="bf16-mixed", **fields))


def test_a_rate_that_was_meant_for_one_batch() -> None:
    message = kinds(replace(published(), base_lr=2.4e-3, batch_size=64))["rate"]
    assert "64 images are few for it" in message
    assert "with 64 it becomes 0.0006" in message
    assert "few" not in kinds(replace(published(), base_lr=2.4e-3))["rate"]
    muon = find_recipe("cifar10", "pretrain")
    assert isinstance(muon, PretrainRecipe)
    assert "rate" not in kinds(muon, short_side=32)


def test_small_images_that_are_enlarged() -> None:
    message = kinds(published(), short_side=32)["enlarged"]
    assert "half of the images have 32 pixels or fewer" in message
    assert "costs 49 times the pixels" in message
    assert "use --image-size 32 --patch-size 4" in message
    assert "--image-size 96 --patch-size 8" in kinds(published(), short_side=100)["enlarged"]
    assert "enlarged" not in kinds(published(), short_side=200)
    assert "enlarged" not in kinds(published(), short_side=None)


def test_a_warm_up_that_takes_the_run() -> None:
    assert "the rate never comes down; use --warmup-epochs 3" in kinds(replace(published(), epochs=30))["warm-up"]
    assert "little is left" in kinds(replace(published(), epochs=100))["warm-up"]


def test_fewer_images_than_a_batch_and_few_steps() -> None:
    found = kinds(published(), images=1000)
    assert "1,000 images do not fill a batch of 4,096: each epoch would be one step" in found["batch"]
    assert found["batch"].endswith("use --batch-size 64")
    assert "the whole run makes 800 steps" in found["steps"]
    assert kinds(published(), images=None) == {}


def test_sizes_are_taken_from_a_sample_without_broken_images(tmp_path: Path) -> None:
    for number, side in enumerate((20, 30, 40, 500, 600)):
        data = BytesIO()
        Image.new("RGB", (side, 2 * side)).save(data, "png")
        (tmp_path / f"{number}.png").write_bytes(data.getvalue())
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert median_short_side(open_data(str(tmp_path)).train, Reading()) == 40
    only_broken = tmp_path / "only"
    only_broken.mkdir()
    (only_broken / "broken.png").write_bytes(b"nothing")
    assert median_short_side(open_data(str(only_broken)).train, Reading()) is None
