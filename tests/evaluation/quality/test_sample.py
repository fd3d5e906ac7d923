"""Which images quality is measured on, and which labels it uses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmae.data.batches import SeededImages
from openmae.data.decoding import PixelFormat
from openmae.data.sources import open_data
from openmae.data.sources.taking import for_pretraining
from openmae.data.transforms import EvalTransform
from openmae.evaluation.quality.sample import Sample, take_sample


def write(folder: Path, images: int, *, level: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.fromarray(np.full((8, 8), level + number, dtype=np.uint8)).save(folder / f"{number:03d}.png")


def take(data: Path, *, images: int = 8, seed: int = 0, labels: Path | None = None, split: str = "") -> Sample | None:
    opened = open_data(str(data), labels=None if labels is None else str(labels))
    taken = for_pretraining(opened, (split,) if split else ())
    loading = SeededImages(
        source=taken.images, transform=EvalTransform(size=(8, 8), resize=8), format=PixelFormat(1), uniform=16
    )
    return take_sample(taken, loading, images=images, seed=seed)


def levels(sample: Sample | None) -> list[int]:
    assert sample is not None
    return [int(pixels[0, 0, 0]) for pixels in sample.pixels]


def test_the_split_that_is_held_out_is_measured_on(tmp_path: Path) -> None:
    write(tmp_path / "train", 30)
    write(tmp_path / "test", 30, level=100)
    sample = take(tmp_path)
    assert sample is not None
    assert min(levels(sample)) >= 100
    assert (sample.split, sample.held_out, sample.bank) == ("test", True, None)
    assert sample.describe() == "8 images of test, which is held out; no labels"


def test_validation_is_preferred_to_test_and_labels_to_both(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write(tmp_path / "unlabelled" / split, 12)
    for split in ("train", "test"):
        for place, name in enumerate(("a", "b")):
            write(tmp_path / "labelled" / split / name, 12, level=100 * place)
    write(tmp_path / "labelled" / "val", 12)
    unlabelled, labelled = take(tmp_path / "unlabelled"), take(tmp_path / "labelled")
    assert unlabelled is not None
    assert labelled is not None
    assert (unlabelled.split, labelled.split) == ("val", "test")


def test_where_nothing_is_held_out_training_images_are_taken_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, 30)
    sample = take(tmp_path)
    assert sample is not None
    assert not sample.held_out
    assert sample.describe() == "8 images of train, which is trained on: nothing is held out; no labels"


def test_a_split_that_is_trained_on_is_not_held_out(tmp_path: Path) -> None:
    write(tmp_path / "train", 20)
    write(tmp_path / "val", 20)
    sample = take(tmp_path, split="val")
    assert sample is not None
    assert (sample.split, sample.held_out) == ("val", False)


def test_labelled_images_of_the_split_are_classified_by_training_images(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for place, name in enumerate(("dark", "bright")):
            write(tmp_path / split / name, 20, level=200 * place)
    sample = take(tmp_path)
    assert sample is not None
    assert sample.bank is not None
    names = ["bright", "dark"]  # as folders sort
    assert [names[label] for label in sample.labels] == [
        "bright" if level >= 200 else "dark" for level in levels(sample)
    ]
    assert len(sample.bank.labels) == 16
    assert np.bincount(sample.bank.labels).tolist() == [8, 8]
    assert ((sample.bank.pixels[:, 0, 0, 0] >= 200).numpy() == (sample.bank.labels == 0)).all()


def test_few_labels_are_enough_and_their_images_go_first(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / split, 30)
    lines = [f"{split}/{number:03d}.png,{'ab'[number % 2]}" for split in ("train", "test") for number in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    sample = take(tmp_path, labels=tmp_path / "labels.csv")
    assert sample is not None
    assert sample.bank is not None
    assert (sample.labels >= 0).tolist() == [True] * 4 + [False] * 4
    assert sorted(levels(sample)[:4]) == [0, 1, 2, 3]
    assert len(sample.bank.labels) == 4


def test_labels_of_training_images_alone_are_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "train" / name, 10)
    write(tmp_path / "test", 10)
    sample = take(tmp_path)
    assert sample is not None
    assert sample.held_out
    assert (sample.labels == -1).all()
    assert sample.bank is not None


def test_masks_depend_on_seed_and_image_and_the_same_seed_takes_the_same(tmp_path: Path) -> None:
    write(tmp_path, 30)
    one, again, other, more = take(tmp_path), take(tmp_path), take(tmp_path, seed=1), take(tmp_path, images=20)
    assert one is not None
    assert again is not None
    assert other is not None
    assert more is not None
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.uniform, again.uniform)
    assert levels(one) != levels(other)
    by_level = dict(zip(levels(more), more.uniform, strict=True))
    assert all(torch.equal(noise, by_level[level]) for level, noise in zip(levels(one), one.uniform, strict=True))
    assert len({tuple(noise.tolist()) for noise in one.uniform}) == 8


def test_unreadable_images_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "some", 10)
    for number in range(9):
        (tmp_path / "some" / f"{number:03d}.png").write_bytes(b"no image")
    assert levels(take(tmp_path / "some")) == [9]
    (tmp_path / "some" / "009.png").write_bytes(b"no image")
    assert take(tmp_path / "some") is None


@pytest.mark.parametrize("names", [["a"], [f"{number}" for number in range(12)]])
def test_labels_that_can_be_no_classes_are_not_used(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / "train" / name, 1 if len(names) > 1 else 12)
    sample = take(tmp_path)
    assert sample is not None
    assert sample.bank is None
