"""Targets of images: known or not, and cut as the image is."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openmae.data.batches import SeededImages, collate
from openmae.data.decoding import PixelFormat
from openmae.data.sources.labels import GivenLabels
from openmae.data.targets import Kind, Masks
from openmae.data.transforms import EvalTransform, Mask, TrainTransform, random_crop_box, resize_nearest
from tests.data.test_batches import Pictures


def read(kind: Kind, values: list[Any], names: tuple[str, ...] = (), train: GivenLabels | None = None) -> Any:
    return GivenLabels(pa.chunked_array([pa.array(values)]), where="here", names=names, train=train).targets(kind)


def test_no_target_is_no_number_that_a_user_could_give() -> None:
    number = read("number", [-1.0, None, float("nan"), 0.0])
    assert (number.known.tolist(), number.values[[0, 3]].tolist()) == ([True, False, False, True], [-1.0, 0.0])
    assert np.isnan(number.values[1:3]).all()
    labels = read("labels", [["a"], None, [], ["b", "a"]])
    assert (labels.known.tolist(), labels.names) == ([True, False, True, True], ("a", "b"))
    assert labels.values.tolist() == [[True, False], [False, False], [False, False], [True, True]]
    classes = read("class", [1, None, -1, 0])
    assert (classes.names, classes.values.tolist()) == (("-1", "0", "1"), [2, -1, 0, 1]), "-1 is a class like any other"
    assert classes.known.tolist() == [True, False, True, True]
    assert read("class", [1, None, -1, 0], ("cat", "dog")).known.tolist() == [True, False, False, True], (
        "of named classes"
    )


def test_a_subset_may_name_images_without_a_target() -> None:
    taken = read("number", [1.0, 2.0]).subset(np.array([1, -1, 0]))
    assert (taken.known.tolist(), taken.values[[0, 2]].tolist()) == ([True, False, True], [2.0, 1.0])
    assert read("labels", [["a"]]).subset(np.array([-1, 0])).values.tolist() == [[False], [True]]


@pytest.mark.parametrize(
    ("kind", "values", "names", "found", "task"),
    [
        (
            "class",
            [["crack", "rust"], []],
            (),
            "several labels to an image (such as crack;rust), not one class",
            "multilabel",
        ),
        ("class", [1.0, 12.5], (), "numbers (such as 12.5), not classes", "regression"),
        ("labels", [12.5], (), "numbers (such as 12.5), not labels", "regression"),
        (
            "number",
            [["crack", "rust"]],
            (),
            "several labels to an image (such as crack;rust), not a number",
            "multilabel",
        ),
        ("number", ["cat", "dog"], (), "names classes (cat, dog, …), not numbers", "classification"),
        ("number", [0, 1], ("cat", "dog"), "names classes (cat, dog, …), not numbers", "classification"),
    ],
)
def test_labels_of_another_kind_are_refused_with_the_task_that_they_fit(
    kind: Kind, values: list[Any], names: tuple[str, ...], found: str, task: str
) -> None:
    with pytest.raises(ValueError, match=rf"^here .*--task {task}") as caught:
        read(kind, values, names)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("number", [float("inf")], "here has a number that is infinite; leave"),
        ("labels", list(range(20_001)), "here has 20,001 labels, more than 20,000; use --task classification"),
    ],
)
def test_labels_that_cannot_be_used_say_what_to_do(kind: Kind, values: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(kind, values)


def test_classes_named_by_numbers_are_numbers() -> None:
    assert read("number", [1, 0, None, 1], ("15", "-30")).values[[0, 1, 3]].tolist() == [-30, 15, -30]
    assert read("number", ["15", "7.5"]).values.tolist() == [15, 7.5]


def test_one_label_an_image_is_a_list_of_one() -> None:
    assert read("labels", ["b", "-", None, "a"]).values.tolist() == [
        [False, True],
        [False] * 2,
        [False] * 2,
        [True, False],
    ]
    assert read("labels", ["b", "-", None, "a"]).known.tolist() == [True, True, False, True]
    assert read("labels", [1, -1, 0]).names == ("-1", "0", "1")
    assert read("labels", [1, -1, 0], ("cat", "dog")).known.tolist() == [True, False, True]


def test_a_test_split_has_the_labels_of_the_training_split() -> None:
    train = GivenLabels(pa.chunked_array([pa.array([["b"], ["a", "c"]])]), where="train")
    test = read("labels", [["c"], ["emu", "a"]], train=train)
    assert (test.names, test.known.tolist()) == (("a", "b", "c", "emu"), [True, True])
    assert test.values.tolist() == [[False, False, True, False], [True, False, False, True]]


# Masks


def pixel_classes(rng: np.random.Generator, height: int, width: int) -> Mask:
    return rng.integers(0, 5, (height, width))


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    factor=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 1000),
)
def test_a_mask_stays_on_its_picture_through_any_crop_and_flip(height: int, width: int, factor: int, seed: int) -> None:
    """At the picture's own scale, where resizing mixes no pixels; the mask may have a finer resolution."""
    rng = np.random.default_rng(seed)
    box = random_crop_box(height, width, (0.2, 1.0), rng)
    transform = TrainTransform(size=(box.height, box.width), crop_scale=(0.2, 1.0), flip=0.5)
    crop = transform.plan(height, width, rng)._replace(box=box)
    mask = pixel_classes(rng, height, width)
    picture = (40 * mask).astype(np.uint8)[:, :, None]
    seen = transform.cut(picture, crop, height, width)[:, :, 0] // 40
    assert (transform.cut_mask(mask, crop, height, width) == seen).all()
    # A mask of another resolution than its picture is cut at the same place.
    fine = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    assert (transform.cut_mask(fine, crop, height, width) == seen).all()


@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 1000))
def test_evaluation_cuts_the_same_centre_of_picture_and_mask(height: int, width: int, seed: int) -> None:
    transform = EvalTransform(size=(8, 8), resize=min(height, width))  # the short side stays as it is
    rng = np.random.default_rng(seed)
    mask = pixel_classes(rng, height, width)
    crop = transform.plan(height, width, rng)
    seen = transform.cut((40 * mask).astype(np.uint8)[:, :, None], crop, height, width)[:, :, 0] // 40
    assert (transform.cut_mask(mask, crop, height, width) == seen).all()


def test_resizing_a_mask_invents_no_classes_and_keeps_shares() -> None:
    mask = np.repeat(np.arange(4), 16)[None].repeat(8, axis=0)
    for size in ((8, 32), (4, 100), (16, 64)):
        assert np.allclose(np.bincount(resize_nearest(mask, size).ravel()) / (size[0] * size[1]), 0.25)


def test_randaugment_and_masks_do_not_go_together() -> None:
    transform = TrainTransform(size=(8, 8), crop_scale=(0.3, 1.0), rand_augment="rand-m9-mstd0.5-inc1")
    with pytest.raises(ValueError, match=r"RandAugment moves pixels .*; add --rand-augment None"):
        transform.cut_mask(np.zeros((9, 9), dtype=int), transform.plan(9, 9, np.random.default_rng(0)), 9, 9)


class Stripes(Pictures):
    """Upright stripes, which crops of the full width leave sharp; the mask is a picture's grey level divided by 50."""

    def mask(self, index: int) -> Mask:
        return np.random.default_rng(index).integers(0, 5, 10)[None].repeat(12, axis=0)

    def read(self, index: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray((50 * self.mask(index)).astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue() if index not in self.broken else b"<html>"


def test_masks_reach_the_batch_cut_as_each_view_is() -> None:
    source = Stripes(6, broken={2})
    whole = TrainTransform(size=(12, 10), crop_scale=(1.0, 1.0), flip=0.5)
    masks = Masks(read=source.mask, names=("a", "b", "c", "d"))
    dataset = SeededImages(source=source, transform=whole, format=PixelFormat(), targets=masks, repeats=2)
    samples = [dataset[epoch, index] for epoch in range(3) for index in range(6)]
    batch = collate(samples)
    assert batch.targets is not None
    assert batch.targets.shape == (36, 12, 10)
    assert (batch.targets == batch.images[:, 0] // 50).all(), "also of the image that stands in for the broken one"
    ways = {view.numpy().tobytes() for view in batch.targets[batch.indices == 1]}
    assert len(ways) == 2, "some views are flipped, some are not"


def test_labels_reach_the_batch_as_floats_and_numbers_as_they_are() -> None:
    transform = EvalTransform(size=(8, 8), resize=8)

    def batch_of(kind: Kind, values: list[Any]) -> Any:
        targets = read(kind, values)
        dataset = SeededImages(source=Pictures(2), transform=transform, format=PixelFormat(), targets=targets)
        targets_B = collate([dataset[0, 0], dataset[0, 1]]).targets
        assert targets_B is not None
        assert targets_B.dtype == torch.float32
        return targets_B.tolist()

    assert batch_of("labels", [["a", "b"], ["b"]]) == [[1.0, 1.0], [0.0, 1.0]]
    assert batch_of("number", [0.5, -2]) == [0.5, -2]
    without = SeededImages(source=Pictures(2), transform=transform, format=PixelFormat())
    assert collate([without[0, 0]]).targets is None
