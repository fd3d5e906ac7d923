from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmae.core.geometry import Geometry
from openmae.data.batches import Batch, SeededImages, collate
from openmae.data.decoding import PixelFormat
from openmae.data.pixel_cache import PixelCache
from openmae.data.sources import open_data
from openmae.data.transforms import TrainTransform
from openmae.training.alarms.first_images import Collected, FirstImages, look, trivial_loss
from openmae.training.alarms.images import alarms_of

SIDE, IMAGES = 16, 40


def dataset(folder: Path, pictures: np.ndarray, *, cached: bool = False) -> SeededImages:
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    return SeededImages(
        source=open_data(str(folder)).train,
        transform=TrainTransform(size=(SIDE, SIDE), crop_scale=(0.3, 1.0)),
        format=PixelFormat(3),
        uniform=1,
        cache=PixelCache(len(pictures), pictures.size * 2, PixelFormat(3)) if cached else None,
    )


def found(images: SeededImages, mean: float = 0.5, std: float = 0.25) -> FirstImages:
    collected = Collected()
    collected.add(batch(images))
    result = look(collected, images, mean=[mean] * 3, std=[std] * 3, geometry=geometry(), normalised=True)
    assert result is not None
    return result


def batch(images: SeededImages) -> Batch:
    return collate([images[0, index] for index in range(len(images))])


def geometry() -> Geometry:
    return Geometry(size=(SIDE, SIDE), patch=(4, 4))


def pictures(count: int = IMAGES) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(127, 64, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def test_images_that_differ_and_fit_their_statistics_raise_nothing(tmp_path: Path) -> None:
    assert set(alarms_of(found(dataset(tmp_path, pictures())), statistics_matter=True).values()) == {None}


def test_images_of_one_colour_are_counted_and_are_no_duplicates(tmp_path: Path) -> None:
    some = pictures()
    some[:10] = 17
    messages = alarms_of(found(dataset(tmp_path, some)), statistics_matter=True)
    assert "10 of the first 40 images have one value in all of their pixels" in str(messages["constant"])
    assert messages["duplicates"] is None


def test_of_mostly_constant_images_no_loss_is_trivial(tmp_path: Path) -> None:
    some = pictures()
    assert found(dataset(tmp_path, some)).trivial == pytest.approx(1, abs=0.1)
    some[:30] = np.arange(90, dtype=np.uint8).reshape(30, 1, 1, 3)
    assert found(dataset(tmp_path, some)).trivial is None


@pytest.mark.parametrize("cached", [False, True])
def test_equal_images_are_counted_though_their_crops_differ(tmp_path: Path, cached: bool) -> None:
    some = pictures()
    some[1:9] = some[0]
    messages = alarms_of(found(dataset(tmp_path, some, cached=cached)), statistics_matter=True)
    assert "8 of the first 40 images equal another one of them exactly" in str(messages["duplicates"])


def test_statistics_of_other_images_are_said_for_a_fresh_network_only(tmp_path: Path) -> None:
    sick = found(dataset(tmp_path, pictures()), mean=0.9, std=0.02)
    message = str(alarms_of(sick, statistics_matter=True)["statistics"])
    assert "of channel 0 have mean -2" in message
    assert "--normalize from-data" in message
    assert alarms_of(sick, statistics_matter=False)["statistics"] is None


def test_of_fewer_images_nothing_is_said(tmp_path: Path) -> None:
    images = dataset(tmp_path, pictures(10))
    collected = Collected()
    collected.add(batch(images))
    assert look(collected, images, mean=[0] * 3, std=[1] * 3, geometry=None, normalised=True) is None


def test_each_image_is_looked_at_once(tmp_path: Path) -> None:
    images = dataset(tmp_path, pictures())
    collected = Collected()
    collected.add(batch(images))
    collected.add(batch(images))
    assert sorted(collected.indices) == list(range(IMAGES))


def test_images_that_are_kept_keep_no_batch_in_memory(tmp_path: Path) -> None:
    collected = Collected()
    collected.add(batch(dataset(tmp_path, pictures())))
    assert all(image.untyped_storage().nbytes() == image.nbytes for image in collected.images)


def test_the_trivial_loss_of_normalised_noise_is_one_and_that_of_constant_images_is_none() -> None:
    images = torch.randn(200, 3, SIDE, SIDE)
    assert trivial_loss(images, geometry(), normalised=True) == pytest.approx(1, abs=0.03)
    assert trivial_loss(3 * images, geometry(), normalised=False) == pytest.approx(9, rel=0.03)
    assert trivial_loss(torch.ones_like(images), geometry(), normalised=True) is None
