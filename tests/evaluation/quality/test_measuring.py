"""One measurement: its loss is the run's own loss, and its figures are what they are called."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from openmae.data.batches import Batch
from openmae.evaluation.quality.measuring import Measuring
from openmae.evaluation.quality.sample import Bank, Sample
from openmae.recipes import PretrainRecipe
from openmae.training.pretraining import reconstruction_loss
from openmae.weights.networks import network_of

IMAGES, PATCHES = 10, 49


def sample(recipe: PretrainRecipe, **changes: Any) -> Sample:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (IMAGES, recipe.channels, 28, 28), dtype=np.uint8)
    made = Sample(
        pixels=torch.from_numpy(pixels),
        uniform=torch.from_numpy(random.random((IMAGES, PATCHES), dtype=np.float32)),
        labels=np.arange(IMAGES) % 2,
        split="test",
        held_out=True,
        bank=None,
    )
    return made._replace(**changes)


def measuring(recipe: PretrainRecipe, of: Sample) -> Measuring:
    return Measuring(Fabric(accelerator="cpu", devices=1), recipe, of, pictures=3)


def loss_of(recipe: PretrainRecipe, of: Sample, model: Any) -> float:
    """The loss of the training, of the whole sample as one batch."""
    batch = Batch(images=of.pixels, targets=None, uniform=of.uniform, indices=torch.arange(IMAGES), seeds=[], bad=[])
    return float(reconstruction_loss(recipe, model)(model, batch))


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_that_of_the_training_whatever_the_batch(
    tiny_recipe: PretrainRecipe, normalised: bool, channels: int
) -> None:
    recipe = replace(
        tiny_recipe,
        normalise_target=normalised,
        channels=channels,
        mean=(0.4,) * channels,
        std=(0.3,) * channels,
        batch_size=4,
    )
    model, of = network_of(recipe).build_autoencoder(), sample(recipe)
    with torch.no_grad():
        found = measuring(recipe, of).reconstruct(model)
        assert found.errors.shape == (channels,)
        assert float(found.errors.mean()) == pytest.approx(loss_of(recipe, of, model), rel=1e-5)
        assert found.predictions.shape == (3, PATCHES, 16 * channels)


def test_the_error_of_each_channel_is_its_own(tiny_recipe: PretrainRecipe) -> None:
    recipe = replace(tiny_recipe, normalise_target=False, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    model, of = network_of(recipe).build_autoencoder(), sample(recipe)
    of.pixels[:, 1] = 128  # as the mean, which an untrained network nearly predicts
    with torch.no_grad():
        red, green, blue = measuring(recipe, of).reconstruct(model).errors.tolist()
    assert green < 0.5 * min(red, blue)


def test_patches_without_data_do_not_count(tiny_recipe: PretrainRecipe) -> None:
    recipe = replace(tiny_recipe, pixel_type="float32")
    model = network_of(recipe).build_autoencoder()
    of = sample(recipe)
    pixels = of.pixels.float() / 255
    pixels[:, :, :14] = torch.nan
    with torch.no_grad():
        found = measuring(recipe, of._replace(pixels=pixels))
        figures = found.figures(model, found.reconstruct(model))
        assert figures["quality/loss"] == pytest.approx(loss_of(recipe, of._replace(pixels=pixels), model), rel=1e-5)
    assert np.isfinite(list(figures.values())).all()


def dark_and_bright(images: int) -> torch.Tensor:
    """Two kinds of images that anything tells apart, in turn."""
    levels = torch.tensor([20, 230], dtype=torch.uint8).repeat(images // 2).view(images, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    return levels + torch.randint(0, 20, (images, 1, 28, 28), dtype=torch.uint8, generator=generator)


def test_the_labelled_images_of_the_sample_are_classified_by_the_bank(tiny_recipe: PretrainRecipe) -> None:
    labels = np.array([0, 1] * 4 + [-1] * 2)
    of = sample(tiny_recipe, pixels=dark_and_bright(IMAGES), labels=labels)
    of = of._replace(bank=Bank(dark_and_bright(12), np.arange(12) % 2, 2))
    model = network_of(tiny_recipe).build_autoencoder()
    with torch.no_grad():
        found = measuring(tiny_recipe, of)
        figures = found.figures(model, found.reconstruct(model))
        assert (figures["quality/knn"], figures["quality/probe"]) == (100, 100)
        found = measuring(tiny_recipe, of._replace(labels=np.where(labels >= 0, 1 - labels, -1)))
        figures = found.figures(model, found.reconstruct(model))
    assert (figures["quality/knn"], figures["quality/probe"]) == (0, 0)


def test_without_labels_of_the_sample_the_bank_is_classified_by_the_rest_of_it(tiny_recipe: PretrainRecipe) -> None:
    """Leaving one out, all are right, and so is the other half."""
    of = sample(tiny_recipe, labels=np.full(IMAGES, -1), held_out=False)
    of = of._replace(bank=Bank(dark_and_bright(12), np.arange(12) % 2, 2))
    model = network_of(tiny_recipe).build_autoencoder()
    with torch.no_grad():
        found = measuring(tiny_recipe, of)
        figures = found.figures(model, found.reconstruct(model))
    assert (figures["quality/knn"], figures["quality/probe"], figures["quality/held_out"]) == (100, 100, 0)


def test_without_labels_there_is_no_accuracy_and_what_is_not_finite_is_left_out(tiny_recipe: PretrainRecipe) -> None:
    model = network_of(tiny_recipe).build_autoencoder()
    found = measuring(tiny_recipe, sample(tiny_recipe))
    with torch.no_grad():
        figures = found.figures(model, found.reconstruct(model))
        assert not {"quality/knn", "quality/probe", "quality/constant"} & figures.keys()
        model.encoder.norm.weight.fill_(torch.nan)
        figures = found.figures(model, found.reconstruct(model))
    assert not {"quality/loss", "quality/rank", "quality/deviation"} & figures.keys()
    assert figures["quality/nearest"] > 0
