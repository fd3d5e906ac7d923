"""Weights that were trained on 8-bit images see deeper ones in the brightness that they know, and that is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openmae.core.network import Network
from openmae.data.decoding import AS_USUAL, PixelFormat, decode
from openmae.data.sources import open_data
from openmae.data.transforms import normalise_pixels
from openmae.recipes import find_recipe
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from openmae.training.deep_pixels import adopt_from, network_for, network_for_sources

NETWORK = Network(
    backbone="vit_tiny_patch16_224", image_size=(8, 8), mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_resize=8
)


def grey(kind: str, scale: float, folder: Path) -> list[bytes]:
    """The same four grey pictures, in another type and scale."""
    folder.mkdir()
    for number in range(4):
        levels = np.random.default_rng(number).integers(0, 256, (8, 8))
        levels[0, 0] = 255
        np.save(folder / f"{number}.npy", (levels * scale).astype(kind))
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def seen(data: bytes, network: Network) -> torch.Tensor:
    pixels = decode(data, PixelFormat(3, network.pixel_type))
    return normalise_pixels(torch.tensor(pixels).permute(2, 0, 1)[None], network.mean, network.std)


@pytest.mark.parametrize(
    ("kind", "scale", "words"),
    [
        (
            "uint16",
            257,
            "16-bit ones with 16 bits in use: 65,535 is taken for white (--pixel-range sets black and white)",
        ),
        (
            "uint16",
            4095 / 255,
            "16-bit ones with 12 bits in use: 4,095 is taken for white (--pixel-range sets black and white)",
        ),
        ("uint16", 1, "16-bit ones with 8 bits in use: 255 is taken for white (--pixel-range sets black and white)"),
        (
            "float32",
            1 / 255,
            "floating-point numbers in 0 … 1: 1 is taken for white (--pixel-range sets black and white)",
        ),
    ],
)
def test_deeper_images_are_as_bright_as_8_bit_ones(
    kind: str, scale: float, words: str, tmp_path: Path, said: list[str]
) -> None:
    plain, deep = grey("uint8", 1, tmp_path / "plain"), grey(kind, scale, tmp_path / "deep")
    assert network_for(NETWORK, plain, AS_USUAL) == NETWORK
    assert not said
    adapted = network_for(NETWORK, deep, AS_USUAL)
    assert said == [f"the weights were trained on 8-bit images and these are {words}"]

    for one, other in zip(plain, deep, strict=True):
        torch.testing.assert_close(seen(one, NETWORK), seen(other, adapted), atol=0.005, rtol=0)


def test_floats_of_another_range_are_refused_with_a_way_on(tmp_path: Path) -> None:
    plain, deep = grey("uint8", 1, tmp_path / "plain"), grey("float32", 4, tmp_path / "deep")
    with pytest.raises(ValueError, match=r"floating-point numbers from 0 to 1.02e\+03; give --pixel-range"):
        network_for(NETWORK, deep, AS_USUAL)
    adapted = network_for(NETWORK, deep, AS_USUAL, pixel_range=(0, 1020))
    assert adapted.pixel_type == "float32"
    for one, other in zip(plain, deep, strict=True):
        torch.testing.assert_close(seen(one, NETWORK), seen(other, adapted), atol=1e-4, rtol=0)


def test_the_range_has_a_black_and_a_white(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--pixel-range is 5 5; give the number of black"):
        network_for(NETWORK, grey("uint16", 1, tmp_path / "deep"), AS_USUAL, pixel_range=(5, 5))


def test_8_bit_images_are_as_bright_for_weights_of_16_bits(tmp_path: Path, said: list[str]) -> None:
    network = replace(NETWORK, pixel_type="uint16")
    plain, deep = grey("uint8", 1, tmp_path / "plain"), grey("uint16", 257, tmp_path / "deep")
    adapted = network_for(network, plain, AS_USUAL)
    assert "trained on 16-bit images and these are 8-bit ones: 255 is taken for white" in said[0]
    for one, other in zip(plain, deep, strict=True):
        torch.testing.assert_close(seen(one, adapted), seen(other, network), atol=1e-4, rtol=0)


def test_what_is_0_and_1_for_weights_of_floats_must_be_given(tmp_path: Path) -> None:
    network = replace(NETWORK, pixel_type="float32")
    plain = grey("uint8", 1, tmp_path / "plain")
    with pytest.raises(ValueError, match="trained on floating-point images, and these are 8-bit ones; give --pixel-r"):
        network_for(network, plain, AS_USUAL)
    assert network_for(network, plain, AS_USUAL, pixel_range=(0, 255)) == replace(network, pixel_type="uint8")


def test_trainings_take_the_type_of_the_images_and_the_statistics_that_belong_to_it(tmp_path: Path) -> None:
    grey("uint16", 4095 / 255, tmp_path / "deep")
    source = open_data(str(tmp_path / "deep")).train
    adapted = network_for_sources(NETWORK, [source], AS_USUAL)
    recipe = find_recipe("vit-b16-800e-linear")
    for asked in (recipe, replace(recipe, pixel_type="uint16")):
        taken = adopt_from(asked, NETWORK, source)
        assert (taken.pixel_type, taken.mean, taken.std) == ("uint16", adapted.mean, adapted.std)
    assert adopt_from(replace(recipe, normalize="from-data"), NETWORK, source).pixel_type == "auto"
