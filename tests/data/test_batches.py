import io
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from openmae.data.batches import REPLACEMENT_ATTEMPTS, BadRecord, Batch, SeededImages, collate
from openmae.data.decoding import PixelFormat, Pixels, open_image
from openmae.data.pixel_cache import PixelCache
from openmae.data.randomness import Stream, random_stream
from openmae.data.sampling import StepSampler, epoch_order
from openmae.data.sources import Source, Subset
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.transforms import EvalTransform, TrainTransform, apply
from openmae.data.workers import MAX_AUTOMATIC_WORKERS, automatic_workers, evaluation_loader, training_loader

EVALUATION = EvalTransform(size=(8, 8), resize=8)
TRAINING = TrainTransform(size=(8, 8), crop_scale=(0.3, 1.0), rand_augment="rand-m9-mstd0.5-inc1")
SEED = 5
COLOUR = PixelFormat()


class Pictures(Labelled):
    """Images in memory: number i is all grey level i, or noise; some cannot be decoded, some not even be read."""

    def __init__(
        self, count: int, *, noise: bool = False, broken: Collection[int] = (), gone: Collection[int] = ()
    ) -> None:
        numbers = pa.chunked_array([pa.array(np.arange(count) * 10, pa.int64())])
        # Named, so that the numbers stay as they are.
        self.given = GivenLabels(numbers, where="pictures", names=tuple(map(str, range(10 * count))))
        self.count = count
        self.noise, self.broken, self.gone = noise, broken, gone

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> bytes:
        if index in self.gone:
            raise FileNotFoundError("the disk has gone")
        if index in self.broken:
            return b"<html>"
        pixels = np.full((12, 10, 3), index, dtype=np.uint8)
        if self.noise:
            pixels = np.random.default_rng(index).integers(0, 256, pixels.shape, dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def name(self, index: int) -> str:
        return f"picture-{index}"


def training_images(source: Source, *, seed: int = SEED) -> SeededImages:
    targets = source.targets("class")
    return SeededImages(source=source, transform=TRAINING, format=COLOUR, targets=targets, seed=seed, uniform=6)


def plain_images(source: Pictures, *, replace_bad: bool = True) -> SeededImages:
    return SeededImages(
        source=source,
        transform=EVALUATION,
        format=COLOUR,
        targets=source.targets("class"),
        seed=SEED,
        uniform=6,
        replace_bad=replace_bad,
    )


def steps(images: int = 20, batch_size: int = 6, *, last_step: int = 6) -> StepSampler:
    return StepSampler(images=images, batch_size=batch_size, seed=SEED, first_step=0, last_step=last_step)


def load(dataset: SeededImages, sampler: StepSampler, *, workers: int = 0) -> list[Batch]:
    return list(training_loader(dataset, sampler, workers=workers, pin_memory=False))


def assert_same(ones: list[Batch], others: list[Batch]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.images.numpy().tobytes() == other.images.numpy().tobytes()
        assert one.uniform.numpy().tobytes() == other.uniform.numpy().tobytes()
        assert classes_in(one) == classes_in(other)
        assert one.indices.tolist() == other.indices.tolist()
        assert one.bad == other.bad


def classes_in(batch: Batch) -> list[int]:
    assert batch.targets is not None
    classes: list[int] = batch.targets.tolist()
    return classes


# Random numbers as a function


def test_streams_are_independent() -> None:
    at = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1), (1, 2, 0), (1, 0, 2)]
    draws = {
        (*place, stream): random_stream(place[0], stream, epoch=place[1], index=place[2]).integers(2**63, size=1000)
        for place in at
        for stream in Stream
    }
    everything = np.concatenate(list(draws.values()))
    assert len(draws) == len(at) * len(Stream)
    assert len(np.unique(everything)) == len(everything)


def test_neighbouring_images_and_epochs_draw_uncorrelated_numbers() -> None:
    table = np.array([random_stream(0, Stream.MASK, epoch=e, index=i).random(500) for e in range(4) for i in range(10)])
    correlations = np.corrcoef(table)[np.triu_indices(40, k=1)]
    assert np.abs(correlations).max() < 0.25
    assert abs(correlations.std() - 500**-0.5) < 0.005
    assert abs(table.mean() - 0.5) < 0.01


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 2**40), index=st.integers(0, 2**60))
def test_a_stream_depends_on_its_address_only(seed: int, epoch: int, index: int) -> None:
    one, two = (random_stream(seed, Stream.STEP, epoch=epoch, index=index).random(3).tolist() for _ in range(2))
    assert one == two
    assert one != random_stream(seed, Stream.STEP, epoch=epoch, index=index + 1).random(3).tolist()
    assert one != random_stream(seed, Stream.STEP, epoch=epoch + 1, index=index).random(3).tolist()
    assert one != random_stream(seed + 1, Stream.STEP, epoch=epoch, index=index).random(3).tolist()


@settings(deadline=None)
@given(images=st.integers(0, 300), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_the_order_of_an_epoch_is_a_permutation(images: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(images, seed=seed, epoch=epoch).tolist()) == list(range(images))


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    orders = [epoch_order(50, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6
    assert list(range(50)) not in orders


def test_the_order_is_shuffled_evenly() -> None:
    first = [int(epoch_order(10, seed=0, epoch=epoch)[0]) for epoch in range(2000)]
    assert np.bincount(first, minlength=10).min() > 140


# Steps


@settings(deadline=None)
@given(
    images=st.integers(1, 80),
    micro=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    world_size=st.sampled_from([1, 2, 4]),
    first_step=st.integers(0, 7),
)
def test_ranks_and_accumulation_cut_the_same_global_batches(
    images: int, micro: int, accumulate: int, world_size: int, first_step: int
) -> None:
    batch_size = micro * accumulate * world_size
    assume(batch_size <= images)
    whole = StepSampler(images=images, batch_size=batch_size, seed=SEED, first_step=first_step, last_step=9)
    shares = [
        list(replace(whole, accumulate=accumulate, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    for number, batch in enumerate(whole):
        turns = range(number * accumulate, (number + 1) * accumulate)
        parts = [share[turn] for turn in turns for share in shares]
        assert all(len(part) == micro for part in parts)
        assert [key for part in parts for key in part] == batch
    assert [len(share) for share in shares] == [(9 - first_step) * accumulate] * world_size


@settings(deadline=None)
@given(images=st.integers(1, 60), batch_size=st.integers(1, 60), epochs=st.integers(1, 4))
def test_no_image_is_missing_or_doubled_within_an_epoch(images: int, batch_size: int, epochs: int) -> None:
    assume(batch_size <= images)
    per_epoch = images // batch_size
    sampler = steps(images, batch_size, last_step=epochs * per_epoch)
    assert sampler.steps_per_epoch == per_epoch
    batches = list(sampler)
    for epoch in range(epochs):
        keys = [key for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for key in batch]
        assert {key[0] for key in keys} == {epoch}
        # Only images that do not fill a batch are dropped.
        assert len({index for _, index in keys}) == len(keys) == images - images % batch_size
        assert [index for _, index in keys] == epoch_order(images, seed=SEED, epoch=epoch)[: len(keys)].tolist()


def test_the_images_that_an_epoch_drops_come_in_another() -> None:
    sampler = steps(images=11, batch_size=4, last_step=2 * 10)
    assert {index for batch in sampler for _, index in batch} == set(range(11))


@settings(deadline=None)
@given(first_step=st.integers(0, 12), accumulate=st.sampled_from([1, 2]))
def test_a_later_first_step_gives_exactly_the_remaining_steps(first_step: int, accumulate: int) -> None:
    whole = replace(steps(last_step=12), accumulate=accumulate)
    rest = replace(whole, first_step=first_step)
    assert list(rest) == list(whole)[first_step * accumulate :]
    assert len(rest) == len(list(rest))


def test_a_sampler_can_be_iterated_again() -> None:
    sampler = steps()
    assert list(sampler) == list(sampler)


def test_too_few_images_for_a_batch_say_which_batch_size_fits() -> None:
    with pytest.raises(ValueError, match=r"^7 images do not fill a batch of 8; use --batch-size 7 or less$"):
        steps(images=7, batch_size=8)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world_size", "fitting"), [(10, 4, 1, 8), (10, 1, 4, 8), (13, 2, 3, 12), (3, 2, 2, 4)]
)
def test_a_batch_that_cannot_be_cut_says_which_size_can(
    batch_size: int, accumulate: int, world_size: int, fitting: int
) -> None:
    sampler = steps(images=100, batch_size=12)
    with pytest.raises(ValueError, match=rf"batch of {batch_size} cannot be cut .*; use --batch-size {fitting}$"):
        replace(sampler, batch_size=batch_size, accumulate=accumulate, world_size=world_size)
    replace(sampler, batch_size=fitting, accumulate=accumulate, world_size=world_size)


# Samples


def test_a_sample_depends_on_seed_epoch_and_index_only() -> None:
    source = Pictures(10, noise=True)
    dataset, twin = training_images(source), training_images(source)
    keys = [(epoch, index) for epoch in range(3) for index in range(10)]
    forwards = {key: dataset[key] for key in keys}
    backwards = {key: twin[key] for key in reversed(keys)}
    for key in keys:
        one, two = forwards[key], backwards[key]
        assert len(one.views) == len(two.views) == 1
        assert one.views[0].tobytes() == two.views[0].tobytes()
        assert one.uniform[0].tobytes() == two.uniform[0].tobytes()
        assert (one.targets, one.image, one.bad) == (two.targets, two.image, two.bad)


def test_crops_and_uniform_numbers_differ_by_epoch_by_image_and_by_seed() -> None:
    source = Subset(Pictures(1, noise=True), np.array([0, 0]))
    samples = [
        training_images(source, seed=seed)[epoch, index] for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)
    ]
    assert len({sample.views[0].tobytes() for sample in samples}) == 8
    assert len({sample.uniform[0].tobytes() for sample in samples}) == 8


def test_uniform_numbers_come_from_the_mask_stream() -> None:
    for batch, keys in zip(load(training_images(Pictures(20)), steps()), steps(), strict=True):
        expected = [
            random_stream(SEED, Stream.MASK, epoch=epoch, index=index).random(6, dtype=np.float32)
            for epoch, index in keys
        ]
        assert batch.uniform.numpy().tobytes() == np.stack(expected).tobytes()


def test_the_transform_draws_from_the_augmentation_stream() -> None:
    dataset = training_images(Pictures(20, noise=True))
    pixels: Pixels = np.asarray(Image.open(io.BytesIO(dataset.source.read(7))))
    expected = apply(TRAINING, pixels, random_stream(SEED, Stream.AUGMENTATION, epoch=3, index=7))
    (found,) = dataset[3, 7].views
    assert found.tobytes() == expected.tobytes()


def test_a_batch_holds_images_labels_and_indices_in_the_order_of_the_sampler() -> None:
    for batch, keys in zip(load(plain_images(Pictures(20)), steps()), steps(), strict=True):
        indices = [index for _, index in keys]
        assert batch.images.shape == (6, 3, 8, 8)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert [int(image.unique()) for image in batch.images] == indices
        assert classes_in(batch) == [10 * index for index in indices]
        assert batch.indices.tolist() == indices
        assert batch.targets is not None
        assert (batch.targets.dtype, batch.indices.dtype) == (torch.int64, torch.int64)
        assert (batch.uniform.shape, batch.uniform.dtype) == ((6, 6), torch.float32)
        assert batch.bad == []


def test_rows_and_columns_and_channels_keep_their_places() -> None:
    source = Pictures(1, noise=True)
    transform = EvalTransform(size=(12, 10), resize=10)  # the pictures' own size
    image = collate([SeededImages(source=source, transform=transform, format=COLOUR)[0, 0]]).images[0]
    pixels = np.asarray(Image.open(io.BytesIO(source.read(0))))
    assert image.shape == (3, 12, 10)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def test_a_view_stays_as_it_is_when_more_images_are_decoded() -> None:
    class Flat(Pictures):
        def read(self, index: int) -> bytes:
            buffer = io.BytesIO()
            Image.new("RGB", (16, 16), (10 * index,) * 3).save(buffer, "JPEG")
            return buffer.getvalue()

    whole = EvalTransform(size=(16, 16), resize=16)  # nothing to cut or resize: the view is what was decoded
    images = SeededImages(source=Flat(4), transform=whole, format=PixelFormat())
    views = [images[0, index].views[0] for index in range(4)]
    assert [int(view.max()) for view in views] == [0, 10, 20, 30]


def test_grey_images_have_one_channel() -> None:
    dataset = SeededImages(source=Pictures(4), transform=EVALUATION, format=PixelFormat(1))
    assert collate([dataset[0, 3]]).images.shape == (1, 1, 8, 8)


def test_two_workers_or_one_give_the_same_batches_as_none() -> None:
    source = Pictures(20, noise=True, broken={4, 9}, gone={13})
    dataset, sampler = training_images(source), steps()
    assert sampler.steps_per_epoch == 3
    expected = load(dataset, sampler)
    assert {record.image for batch in expected for record in batch.bad} == {4, 9, 13}
    for workers in (1, 2):
        assert_same(load(dataset, sampler, workers=workers), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restart_gives_exactly_the_remaining_batches(workers: int) -> None:
    dataset = training_images(Pictures(20, noise=True, broken={4}))
    whole = load(dataset, steps())
    for first_step in (1, 3, 4):
        assert_same(load(dataset, replace(steps(), first_step=first_step), workers=workers), whole[first_step:])


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 2), (2, 3)])
def test_ranks_load_the_samples_that_one_process_would(world_size: int, accumulate: int) -> None:
    dataset = training_images(Pictures(20, noise=True, broken={4}))
    whole = load(dataset, steps())
    shares = [
        load(dataset, replace(steps(), rank=rank, world_size=world_size, accumulate=accumulate))
        for rank in range(world_size)
    ]
    for number, batch in enumerate(whole):
        parts = [share[number * accumulate + turn] for turn in range(accumulate) for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.uniform for part in parts]), batch.uniform)
        assert torch.cat([part.indices for part in parts]).tolist() == batch.indices.tolist()


# Several views of an image


def repeated(source: Source, *, cache: PixelCache | None = None) -> SeededImages:
    return SeededImages(
        source=source, transform=TRAINING, format=COLOUR, seed=SEED, uniform=6, repeats=3, cache=cache, replace_bad=True
    )


def test_repeats_are_different_crops_and_masks_of_one_decoding() -> None:
    source = Counting(8, noise=True)
    sampler = StepSampler(images=8, batch_size=12, seed=SEED, first_step=0, last_step=2, repeats=3)
    assert sampler.steps_per_epoch == 2
    batches = load(repeated(source), sampler)
    assert [batch.images.shape[0] for batch in batches] == [12, 12]
    assert source.reads == 8
    seen = torch.cat([batch.indices for batch in batches]).tolist()
    assert sorted(seen) == sorted(list(range(8)) * 3)
    for batch in batches:
        assert batch.indices.tolist() == [index for index in batch.indices.tolist()[::3] for _ in range(3)]
        assert len({image.numpy().tobytes() for image in batch.images}) == 12
        assert len({row.numpy().tobytes() for row in batch.uniform}) == 12


def test_the_first_of_several_views_is_the_only_one_of_a_run_without_repeats() -> None:
    source = Pictures(5, noise=True)
    for index in range(5):
        one, three = training_images(source)[2, index], repeated(source)[2, index]
        assert len(three.views) == len(three.uniform) == 3
        assert three.views[0].tobytes() == one.views[0].tobytes()
        assert three.uniform[0].tobytes() == one.uniform[0].tobytes()


def test_ranks_and_accumulation_cut_whole_images_of_repeated_batches() -> None:
    whole = list(StepSampler(images=9, batch_size=12, seed=SEED, first_step=0, last_step=4, repeats=2))
    parts = [
        list(
            StepSampler(
                images=9, batch_size=12, seed=SEED, first_step=0, last_step=4, repeats=2, rank=rank, world_size=3
            )
        )
        for rank in range(3)
    ]
    assert [len(keys) for keys in whole] == [6] * 4
    assert [[key for part in parts for key in part[step]] for step in range(4)] == whole
    with pytest.raises(ValueError, match=r"with 5 repeats; use --batch-size 10$"):
        StepSampler(images=9, batch_size=12, seed=SEED, first_step=0, last_step=4, repeats=5)


# Decoded images in memory


class Counting(Pictures):
    """Pictures that count how often they are read."""

    reads = 0

    def read(self, index: int) -> bytes:
        self.reads += 1
        return super().read(index)


def test_cached_images_are_decoded_once_and_change_nothing() -> None:
    source = Counting(20, noise=True, broken={4})
    sampler = steps(last_step=9)
    expected = load(training_images(Pictures(20, noise=True, broken={4})), sampler)
    cache = PixelCache(20, 20 * 12 * 10 * 3 + 200, COLOUR)
    dataset = replace(training_images(source), cache=cache)
    assert_same(load(dataset, sampler), expected)
    assert source.reads <= 19 + 3 * 2  # the broken one is tried again each time
    assert_same(load(dataset, sampler, workers=2), expected)


def test_images_that_do_not_fit_are_decoded_each_time() -> None:
    source = Counting(20, noise=True)
    sampler = steps(last_step=9)
    cache = PixelCache(20, 5 * 12 * 10 * 3, COLOUR)
    assert_same(
        load(replace(training_images(source), cache=cache), sampler),
        load(training_images(Pictures(20, noise=True)), sampler),
    )
    assert sum(cache.get(index) is not None for index in range(20)) == 5


def test_workers_share_the_images_that_one_of_them_has_decoded() -> None:
    cache = PixelCache(20, 20 * 12 * 10 * 3 + 200, COLOUR)
    dataset = replace(training_images(Pictures(20, noise=True)), cache=cache)
    load(dataset, steps(last_step=3), workers=2)
    pixels = [cache.get(index) for index in range(20)]
    assert sum(found is not None for found in pixels) == 18
    for index, found in enumerate(pixels):
        assert found is None or np.array_equal(found, np.asarray(Image.open(io.BytesIO(dataset.source.read(index)))))


class Photos(Pictures):
    """JPEGs that a small crop need not decode whole."""

    def read(self, index: int) -> bytes:
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        return buffer.getvalue()


def test_several_views_share_a_decoding_that_is_large_enough_for_each() -> None:
    transform = replace(TRAINING, rand_augment=None, crop_scale=(0.2, 1.0))
    dataset = replace(training_images(Photos(4)), transform=transform, repeats=3)
    mixed = 0
    for epoch in range(20):
        rngs = [random_stream(SEED, Stream.AUGMENTATION, epoch=epoch, index=1, repeat=repeat) for repeat in range(3)]
        crops = [transform.plan(64, 64, rng) for rng in rngs]
        shrinks = [transform.shrink(crop) for crop in crops]
        pixels = open_image(dataset.source.read(1)).decode(COLOUR, shrink=min(shrinks))
        for view, crop in zip(dataset[epoch, 1].views, crops, strict=True):
            assert np.array_equal(view, transform.cut(pixels, crop, 64, 64))
        mixed += len(set(shrinks)) > 1
    assert mixed >= 3


def test_images_that_may_be_decoded_smaller_are_not_cached() -> None:
    cache = PixelCache(4, 4 * 64 * 64 * 3 + 100, COLOUR)
    dataset = replace(training_images(Photos(4)), cache=cache)
    for epoch in range(20):
        dataset[epoch, 0]
    assert cache.get(0) is None
    exact = replace(dataset, transform=replace(TRAINING, exact=True))
    exact[0, 0]
    assert cache.get(0) is not None


def test_deep_pixels_are_cached_as_they_are() -> None:
    cache = PixelCache(3, 5000, PixelFormat(5, "float32"))
    pixels = [np.random.default_rng(index).random((7, index + 3, 5), dtype=np.float32) for index in range(3)]
    for index in (2, 0, 1):
        cache.put(index, pixels[index])
    for index in range(3):
        cache.put(index, pixels[index] + 1)  # the first one stays, or the arena would fill with copies
    for index in range(3):
        found = cache.get(index)
        assert found is not None
        assert found.dtype == np.float32
        assert np.array_equal(found, pixels[index])


# Bad images


def test_a_bad_image_is_replaced_by_seed_epoch_and_index_and_recorded() -> None:
    dataset = plain_images(Pictures(20, broken={4}, gone={9}))
    for index, reason in ((4, "not an image"), (9, "the disk has gone")):
        stand_ins = set()
        for epoch in range(30):
            sample = dataset[epoch, index]
            candidates = random_stream(SEED, Stream.REPLACEMENT, epoch=epoch, index=index).integers(20, size=20)
            tried = candidates.tolist()
            expected = next(number for number in tried if number not in (4, 9))
            assert sample.image == expected
            assert sample.targets == [10 * expected]
            assert np.unique(sample.views[0]).tolist() == [expected]
            assert sample.bad[0] == BadRecord(index, f"picture-{index}", reason)
            assert [record.image for record in sample.bad[1:]] == tried[: tried.index(expected)]
            stand_ins.add(sample.image)
        assert len(stand_ins) > 5


def test_a_replacement_is_cropped_and_masked_like_the_image_it_replaces() -> None:
    dataset = training_images(Pictures(20, noise=True, broken={4}))
    sample = dataset[2, 4]
    original: Pixels = np.asarray(Image.open(io.BytesIO(dataset.source.read(sample.image))))
    expected = apply(TRAINING, original, random_stream(SEED, Stream.AUGMENTATION, epoch=2, index=4))
    noise = random_stream(SEED, Stream.MASK, epoch=2, index=4).random(6, dtype=np.float32)
    assert sample.views[0].tobytes() == expected.tobytes()
    assert sample.uniform[0].tobytes() == noise.tobytes()


def test_a_bad_image_changes_no_other_sample() -> None:
    sound = load(training_images(Pictures(20, noise=True)), steps())
    damaged = load(training_images(Pictures(20, noise=True, broken={4})), steps())
    for one, other in zip(sound, damaged, strict=True):
        for row, index in enumerate(one.indices.tolist()):
            assert torch.equal(one.images[row], other.images[row]) == (index != 4)
            assert torch.equal(one.uniform[row], other.uniform[row])


def test_too_many_bad_images_in_a_row_say_to_look_at_the_files() -> None:
    dataset = plain_images(Pictures(5, broken=range(5)))
    count = REPLACEMENT_ATTEMPTS + 1
    with pytest.raises(
        ValueError,
        match=rf"^{count} images in a row cannot be decoded, the last one picture-\d \(not an image\); look at",
    ):
        dataset[0, 0]


def test_a_single_good_image_is_found_among_bad_ones() -> None:
    dataset = plain_images(Pictures(3, broken={0, 2}))
    assert {dataset[epoch, 0].image for epoch in range(50)} == {1}


def test_evaluation_leaves_bad_images_out_and_records_them() -> None:
    dataset = plain_images(Pictures(7, broken={1}, gone={4}), replace_bad=False)
    batches = list(evaluation_loader(dataset, batch_size=3, workers=0, pin_memory=False))
    assert [batch.indices.tolist() for batch in batches] == [[0, 2], [3, 5], [6]]
    assert [classes_in(batch) for batch in batches] == [[0, 20], [30, 50], [60]]
    assert [len(batch.images) for batch in batches] == [len(batch.uniform) for batch in batches] == [2, 2, 1]
    assert [record for batch in batches for record in batch.bad] == [
        BadRecord(1, "picture-1", "not an image"),
        BadRecord(4, "picture-4", "the disk has gone"),
    ]


def test_a_batch_of_bad_images_is_empty_but_recorded() -> None:
    dataset = plain_images(Pictures(2, broken={0, 1}), replace_bad=False)
    (batch,) = evaluation_loader(dataset, batch_size=2, workers=0, pin_memory=False)
    assert batch.targets is not None
    assert [len(part) for part in (batch.images, batch.targets, batch.uniform, batch.indices)] == [0, 0, 0, 0]
    assert [record.image for record in batch.bad] == [0, 1]


# Evaluation


@settings(deadline=None)
@given(images=st.integers(1, 30), batch_size=st.integers(1, 12), world_size=st.integers(1, 5))
def test_evaluation_visits_each_image_once_over_all_ranks(images: int, batch_size: int, world_size: int) -> None:
    dataset = plain_images(Pictures(images), replace_bad=False)
    loaders = [
        evaluation_loader(dataset, batch_size=batch_size, workers=0, pin_memory=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    seen = [[batch.indices.tolist() for batch in loader] for loader in loaders]
    assert sorted(index for batches in seen for batch in batches for index in batch) == list(range(images))
    for batches in seen:
        mine = [index for batch in batches for index in batch]
        assert mine == sorted(mine)
        assert all(len(batch) == batch_size for batch in batches[:-1])
    alone = [
        batch.indices.tolist()
        for batch in evaluation_loader(dataset, batch_size=batch_size, workers=0, pin_memory=False)
    ]
    assert [alone[rank::world_size] for rank in range(world_size)] == seen, "whole batches"


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_is_the_same_for_any_batch_size_and_workers(batch_size: int) -> None:
    dataset = plain_images(Pictures(9, noise=True), replace_bad=False)
    whole = next(iter(evaluation_loader(dataset, batch_size=9, workers=0, pin_memory=False)))
    parts = list(evaluation_loader(dataset, batch_size=batch_size, workers=1, pin_memory=False))
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert [label for part in parts for label in classes_in(part)] == classes_in(whole)


# Workers


@pytest.mark.parametrize(("processors", "workers"), [(1, 0), (2, 1), (8, 7), (9, 8), (64, MAX_AUTOMATIC_WORKERS)])
def test_workers_leave_one_processor_free_and_are_at_most_eight(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)), raising=False)
    assert automatic_workers() == workers


@pytest.mark.parametrize(("trainings", "workers"), [("1", 8), ("4", 3), ("8", 1), ("16", 0), ("32", 0)])
def test_processes_on_one_machine_share_its_processors(
    monkeypatch: pytest.MonkeyPatch, trainings: str, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", trainings)
    assert automatic_workers() == workers


def test_every_view_has_a_seed_of_its_own_that_costs_no_number_of_its_mask() -> None:
    dataset = replace(plain_images(Pictures(3)), uniform=4, repeats=2)
    samples = [dataset[epoch, index] for epoch in range(2) for index in range(3)]
    seeds = [seed for sample in samples for seed in sample.seeds]
    assert len(set(seeds)) == 12
    assert dataset[1, 2].seeds == samples[-1].seeds
    mask = random_stream(dataset.seed, Stream.MASK, epoch=1, index=2, repeat=1).random(4, dtype=np.float32)
    assert samples[-1].uniform[1].tolist() == mask.tolist()
    assert collate(samples).seeds == seeds


def test_random_numbers_equal_stored_ones() -> None:
    # A run begun with other numbers could not be continued.
    names = ["ORDER", "AUGMENTATION", "MASK", "REPLACEMENT", "SUBSET", "STEP", "QUALITY"]
    assert [stream.name for stream in sorted(Stream)] == names
    raw = random_stream(7, Stream.MASK, epoch=2, index=3).bit_generator.random_raw(2)
    assert raw.tolist() == [8307775506401367174, 17805836630000384342]


@given(
    images=st.integers(2, 40),
    places=st.lists(st.integers(0, 200), max_size=4).map(sorted),
    epoch=st.integers(0, 4),
)
def test_an_order_reshuffled_within_an_epoch_keeps_its_start_and_takes_every_image_once(
    images: int, places: list[int], epoch: int
) -> None:
    order = epoch_order(images, seed=3, epoch=epoch, reshuffled=places)
    assert sorted(order.tolist()) == list(range(images))
    without_the_last = epoch_order(images, seed=3, epoch=epoch, reshuffled=places[:-1])
    kept = max(0, min(images, (places[-1] if places else 10**6) - epoch * images))
    assert order[:kept].tolist() == without_the_last[:kept].tolist()


@pytest.mark.parametrize("places", [[50], [130], [200], [50, 130], [200, 200]])
def test_every_order_after_a_reshuffle_is_another(places: list[int]) -> None:
    for epoch in range(4):
        before = epoch_order(100, seed=3, epoch=epoch, reshuffled=places[:-1])
        after = epoch_order(100, seed=3, epoch=epoch, reshuffled=places)
        start = max(0, places[-1] - epoch * 100)
        assert (before[start:].tolist() != after[start:].tolist()) == (start < 100)


def test_the_sampler_changes_the_order_at_the_given_step() -> None:
    options: dict[str, Any] = {"images": 12, "batch_size": 4, "seed": 0, "first_step": 0, "last_step": 9}
    plain = list(StepSampler(**options))
    changed = list(StepSampler(**options, reshuffled=(4,)))
    assert changed[:4] == plain[:4]
    assert all(one != other for one, other in zip(changed[4:], plain[4:], strict=True))
    repeated = {**options, "images": 6, "repeats": 2}
    once, twice = list(StepSampler(**repeated)), list(StepSampler(**repeated, reshuffled=(4,)))
    assert twice[:4] == once[:4]
    assert twice[4] != once[4]
    assert sorted(index for step in twice[3:6] for _, index in step) == list(range(6))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="here shared memory has a name")
def test_shared_memory_has_no_name_that_a_killed_process_could_leave_behind() -> None:
    """Not even for the moment in which torch names its own."""
    cache = PixelCache(3, 100, COLOUR)
    tensors = [cache._arena, cache._places, cache._used]
    for batch in load(training_images(Pictures(20)), steps(last_step=2), workers=1):
        tensors += [part for part in batch if isinstance(part, torch.Tensor)]
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert len(tensors) == 3 + 2 * 4
    for tensor in tensors:
        file, _ = tensor.untyped_storage()._share_fd_cpu_()
        assert str(Path(f"/proc/self/fd/{file}").readlink()).startswith("/memfd:openmae")
