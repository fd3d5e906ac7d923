from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openmae.data.sources import open_data
from openmae.data.transforms import TrainTransform
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from openmae.training import pixels
from openmae.training.pixels import adopt_pixels, hold_pixels, pixel_format, resolve_pixels
from openmae.weights.networks import network_of


def silent(_: str) -> None:
    pass


@pytest.fixture
def vit_b() -> PretrainRecipe:
    recipe = find_recipe("vit-b16-800e", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def folder_of(tmp_path: Path, channels: int, kind: str) -> str:
    for number in range(4):
        levels = np.random.default_rng(number).integers(0, 200, (8, 8, channels)).astype(kind)
        np.save(tmp_path / f"{number}.npy", levels)
    return str(tmp_path)


def test_8_bit_colour_keeps_the_recipes_statistics(tmp_path: Path, vit_b: PretrainRecipe) -> None:
    (tmp_path / "broken.png").write_bytes(b"<html>")
    source = open_data(folder_of(tmp_path, 3, "uint8")).train
    settled = resolve_pixels(vit_b, source)
    assert settled == replace(vit_b, pixel_type="uint8")
    measured = resolve_pixels(replace(vit_b, normalize="from-data"), source)
    assert measured.mean == pytest.approx((0.39,) * 3, abs=0.05)


@pytest.mark.parametrize(("channels", "kind"), [(1, "uint8"), (13, "uint16"), (2, "float32"), (3, "uint16")])
def test_other_pixels_are_measured_and_the_recipe_says_what_was_found(
    said: list[str], channels: int, kind: str, tmp_path: Path, vit_b: PretrainRecipe
) -> None:
    source = open_data(folder_of(tmp_path, channels, kind)).train
    settled = resolve_pixels(replace(vit_b, channels=channels), source)
    assert pixel_format(settled) == (channels, kind)
    largest = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    assert settled.mean == pytest.approx((100 / largest,) * channels, rel=0.2)
    assert settled.std == pytest.approx((58 / largest,) * channels, rel=0.2)
    assert f"{channels} channels of {kind}" in said[-1]
    assert resolve_pixels(settled, source) == settled


def test_images_with_other_channels_name_the_flag(tmp_path: Path, vit_b: PretrainRecipe) -> None:
    source = open_data(folder_of(tmp_path, 13, "uint8")).train
    with pytest.raises(
        ValueError,
        match=r"cannot be read as 3 channels of uint8, e\.g\. 0\.npy: 13 .*; `openmae check .*` shows what",
    ):
        resolve_pixels(vit_b, source)


def test_a_measurement_takes_the_pixels_that_the_weights_were_trained_with(
    said: list[str], vit_b: PretrainRecipe
) -> None:
    trained = network_of(replace(vit_b, pixel_type="uint16", mean=(0.1,) * 3, std=(0.2,) * 3))
    taken = adopt_pixels(vit_b, trained)
    assert (taken.pixel_type, taken.mean, taken.std) == ("uint16", (0.1,) * 3, (0.2,) * 3)
    own = adopt_pixels(replace(vit_b, normalize="recipe", pixel_type="uint8"), trained)
    assert (own.pixel_type, own.mean, own.std) == ("uint8", IMAGENET_MEAN, IMAGENET_STD)
    bands = replace(vit_b, channels=13)
    assert adopt_pixels(bands, trained) == bands
    assert adopt_pixels(taken, trained) == taken
    assert said == ["normalising as the weights were trained; --normalize recipe takes --mean and --std instead"]


def test_small_sets_are_held_and_the_log_says_so(
    said: list[str], tmp_path: Path, vit_b: PretrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolve_pixels(vit_b, source := open_data(folder_of(tmp_path, 3, "uint8")).train)
    transform = TrainTransform(size=(8, 8), crop_scale=(0.2, 1.0))
    assert hold_pixels(recipe, source, transform) is not None
    assert "caching the decoded images in memory" in said[0]
    assert "--no-hold" in said[0]
    assert hold_pixels(replace(recipe, hold=False), source, transform) is None
    assert hold_pixels(replace(recipe, epochs=1, warmup_epochs=0), source, transform) is None
    monkeypatch.setattr(pixels, "pixel_cache_bytes", lambda processes: 800 // processes)
    assert hold_pixels(replace(recipe, devices=1), source, transform) is None
    monkeypatch.setattr(pixels, "pixel_cache_bytes", lambda processes: 1000 // processes)
    assert hold_pixels(replace(recipe, devices=1), source, transform) is not None
    assert hold_pixels(replace(recipe, devices=2), source, transform) is None
    assert len(said) == 2
