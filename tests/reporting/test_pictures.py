"""Reconstruction pictures show what they claim to show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmae.core.masking import Mask, random_mask
from openmae.data.sources import open_data
from openmae.evaluation.reconstructing import MASKED_GREY, visible_bands
from openmae.recipes import PretrainRecipe
from openmae.reporting import pictures
from openmae.reporting.pictures import (
    draw_rows,
    predict_pixels,
    reconstruct,
    reconstruct_sample,
    reconstruction_panels,
)
from openmae.weights.building import LoadedAutoencoder
from openmae.weights.networks import network_of


class Oracle(torch.nn.Module):
    """Replaces the network, and predicts the target perfectly."""

    def __init__(self, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
        self.geometry = self.model.geometry
        self.normalise_target = recipe.normalise_target

    def forward(self, images: torch.Tensor, mask: Mask) -> object:
        from openmae.core.model import MAEOutput
        from openmae.core.patches import normalise_patches

        target = self.geometry.patchify(images)
        return MAEOutput(torch.zeros(()), normalise_patches(target) if self.normalise_target else target, mask)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(("dtype", "largest"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1)])
def test_a_perfect_prediction_reconstructs_the_original(
    normalised: bool, dtype: torch.dtype, largest: int, tiny_recipe: PretrainRecipe
) -> None:
    recipe = replace(tiny_recipe, normalise_target=normalised)
    levels = torch.rand((3, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    pixels = (levels * largest).to(dtype)
    mask = random_mask(batch=3, patches=(7, 7), kept=12)
    predicted = predict_pixels(Oracle(recipe), recipe, pixels, mask)  # type: ignore[arg-type]
    assert (predicted - pixels.float()).abs().max() < 0.002 * largest


@pytest.mark.parametrize(("bands", "shown"), [(1, 1), (2, 1), (3, 3), (13, 3)])
def test_deep_bands_are_stretched_by_the_originals_percentiles(bands: int, shown: int) -> None:
    levels = torch.linspace(1000, 3000, 100).reshape(1, 1, 10, 10) * torch.arange(1, bands + 1).reshape(1, -1, 1, 1)
    original, predicted = visible_bands(levels, levels + 100)
    assert original.shape == predicted.shape == (1, shown, 10, 10)
    for band in range(shown):
        assert torch.quantile(original[0, band], 0.02).item() == pytest.approx(0, abs=1e-2)
        assert torch.quantile(original[0, band], 0.98).item() == pytest.approx(255, abs=1e-2)
        assert (predicted - original)[0, band].numpy() == pytest.approx(255 * 100 / (band + 1) / 1920, abs=1e-2)


def test_bytes_of_one_or_three_channels_are_shown_as_they_are() -> None:
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (2, channels, 4, 4), dtype=torch.uint8)
        original, predicted = visible_bands(pixels, torch.full((2, channels, 4, 4), 7.0))
        assert torch.equal(original, pixels.float())
        assert (predicted == 7).all()


def test_panels_hide_and_paste_exactly_the_masked_patches(tiny_recipe: PretrainRecipe) -> None:
    model = network_of(tiny_recipe).build_autoencoder(mlp_bias_std=tiny_recipe.mlp_bias_std)
    pixels = torch.full((1, 1, 28, 28), 200.0)
    mask = random_mask(batch=1, patches=(7, 7), kept=12)
    original, masked, predicted, pasted = reconstruction_panels(
        model, pixels, torch.full((1, 1, 28, 28), 50.0), mask.as_grid()
    )[0]
    hidden = np.kron(mask.as_grid()[0].numpy(), np.ones((4, 4), dtype=bool))
    assert (original == 200).all()
    assert (masked[hidden] == MASKED_GREY).all()
    assert (masked[~hidden] == 200).all()
    assert (predicted == 50).all()
    assert (pasted[hidden] == 50).all()
    assert (pasted[~hidden] == 200).all()


def test_picture_is_a_png_with_a_row_per_image(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    source = open_data(str(small_fashion)).train
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for index, file in enumerate(files):
        file.write_bytes(source.read(index))
    out = reconstruct(tiny_run, files, tmp_path / "deep" / "picture.png")
    with Image.open(out) as picture:
        three_rows = picture.size
        assert picture.format == "PNG"
    with Image.open(reconstruct(tiny_run, files[:1], tmp_path / "one.png")) as picture:
        assert picture.width == three_rows[0]
        assert picture.height < three_rows[1] / 2


def test_rows_of_a_data_set_pass_over_images_that_cannot_be_read(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        (folder / f"{index}.png").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"none of the images can be reconstructed \(\d\.png: not an image\)"):
        reconstruct_sample(tiny_run, open_data(str(folder)).train, tmp_path / "p.png", rows=2)
    Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save(folder / "3.png")
    with Image.open(reconstruct_sample(tiny_run, open_data(str(folder)).train, tmp_path / "p.png", rows=2)) as picture:
        one_row = picture.size
    with Image.open(reconstruct(tiny_run, [folder / "3.png"], tmp_path / "q.png")) as picture:
        assert picture.size == one_row


def test_same_seed_same_picture(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(open_data(str(small_fashion)).train.read(0))
    first, again, other = (
        reconstruct(tiny_run, [file], tmp_path / f"{index}.png", seed=seed).read_bytes()
        for index, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first != other


def untrained(recipe: PretrainRecipe) -> LoadedAutoencoder:
    """The recipe's model as it is before training."""
    network = network_of(recipe)
    return LoadedAutoencoder(network.build_autoencoder().eval(), network, recipe.mask_ratio)


def test_a_normalised_target_is_explained_in_the_picture(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []
    draw = draw_rows

    def spy(rows: object, *, caption: str) -> Image.Image:
        captions.append(caption)
        return draw(rows, caption=caption)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "draw_rows", spy)
    image = np.zeros((28, 28, 1), dtype=np.uint8)
    for normalised in (True, False):
        recipe = replace(tiny_recipe, normalise_target=normalised)
        pictures.write_picture(
            untrained(recipe),
            [image],
            tmp_path / "p.png",
        )
    assert "normalised per patch" in captions[0]
    assert "normalised" not in captions[1]


def test_colour_images_stay_in_colour(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(tiny_recipe, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    red = np.zeros((28, 28, 3), dtype=np.uint8)
    red[..., 0] = 255
    out = pictures.write_picture(untrained(recipe), [red], tmp_path / "p.png")
    with Image.open(out) as picture:
        assert picture.convert("RGB").getpixel((40, 80)) == (255, 0, 0)


def test_an_encoder_without_decoder_names_the_file_that_has_one(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without its decoder.*run folder.*model\.safetensors"):
        reconstruct(tiny_run / "encoder.safetensors", [tmp_path / "a.png"], tmp_path / "p.png")


def test_an_unreadable_image_is_named(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read \(not an image\)"):
        reconstruct(tiny_run, [tmp_path / "a.jpg"], tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"b\.jpg cannot be read"):
        reconstruct(tiny_run, [tmp_path / "b.jpg"], tmp_path / "p.png")


def test_an_unwritable_picture_says_so(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(open_data(str(small_fashion)).train.read(0))
    with pytest.raises(ValueError, match=r"cannot write .*give --out"):
        reconstruct(tiny_run, [file], file / "below-a-file.png")
