import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop, v2

from openmae.data.decoding import Pixels
from openmae.data.transforms import (
    Box,
    Crop,
    EvalTransform,
    Interpolation,
    TrainTransform,
    apply,
    normalise_pixels,
    random_crop_box,
    resize,
    seeded_globals,
)

FILTERS: dict[Interpolation, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
POLICY = "rand-m9-mstd0.5-inc1"

sides = st.integers(1, 400)
shares = st.floats(0.01, 1.0)
targets = st.integers(1, 64)
seeds = st.integers(0, 2**32 - 1)


def picture(height: int, width: int, channels: int = 3) -> Pixels:
    """An image without symmetry or repetition."""
    noise = np.random.default_rng(height * 1000 + width).integers(0, 200, (height, width, channels))
    ramp = np.linspace(0, 55, height * width).reshape(height, width, 1)
    return (noise + ramp).astype(np.uint8)


def by_pillow(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation = "bicubic") -> Pixels:
    """Resized to (height, width), channel by channel."""
    planes = [
        Image.fromarray(np.ascontiguousarray(pixels[:, :, channel])).resize(size[::-1], FILTERS[interpolation])
        for channel in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


# Crop boxes


@settings(deadline=None)
@given(height=sides, width=sides, bounds=st.tuples(shares, shares), seed=seeds, attempts=st.sampled_from([1, 2, 10]))
def test_a_crop_lies_inside_the_image(
    height: int, width: int, bounds: tuple[float, float], seed: int, attempts: int
) -> None:
    scale = min(bounds), max(bounds)
    box = random_crop_box(height, width, scale, np.random.default_rng(seed), attempts=attempts)
    assert box.left >= 0
    assert box.top >= 0
    assert box.width >= 1
    assert box.height >= 1
    assert box.left + box.width <= width
    assert box.top + box.height <= height


@settings(deadline=None)
@given(height=sides, width=sides, bounds=st.tuples(shares, shares), seed=seeds)
def test_a_crop_keeps_its_aspect_between_3_4_and_4_3(
    height: int, width: int, bounds: tuple[float, float], seed: int
) -> None:
    box = random_crop_box(height, width, (min(bounds), max(bounds)), np.random.default_rng(seed))
    # Sides are rounded to whole pixels.
    assert (box.width - 0.5) / (box.height + 0.5) <= 4 / 3 + 1e-9
    assert (box.width + 0.5) / (box.height - 0.5) >= 3 / 4 - 1e-9


@settings(deadline=None)
@given(
    height=st.integers(30, 400),
    stretch=st.floats(3 / 4, 4 / 3),
    bounds=st.tuples(st.floats(0.02, 0.5), st.floats(0.02, 0.5)),
    seed=seeds,
    attempts=st.sampled_from([1, 10]),
)
def test_a_crop_that_fits_keeps_its_area_within_the_scale(
    height: int, stretch: float, bounds: tuple[float, float], seed: int, attempts: int
) -> None:
    width = round(height * stretch)
    low, high = min(bounds), max(bounds)
    box = random_crop_box(height, width, (low, high), np.random.default_rng(seed), attempts=attempts)
    rounding = (box.width + box.height + 1) / 2
    assert low * height * width - rounding <= box.width * box.height <= high * height * width + rounding


@settings(deadline=None)
@given(height=sides, width=sides, seed=seeds)
def test_a_single_draw_is_clipped_to_the_image(height: int, width: int, seed: int) -> None:
    box = random_crop_box(height, width, (0.5, 1.0), np.random.default_rng(seed), attempts=1)
    rng = np.random.default_rng(seed)
    area = height * width * rng.uniform(0.5, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    drawn_width, drawn_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
    if drawn_width and drawn_height:
        assert (box.width, box.height) == (min(drawn_width, width), min(drawn_height, height))


def test_a_box_that_never_fits_becomes_the_largest_central_one() -> None:
    rng = np.random.default_rng(0)
    assert random_crop_box(300, 1000, (0.9, 1.0), rng) == (300, 0, 400, 300)
    assert random_crop_box(1000, 300, (0.9, 1.0), rng) == (0, 300, 300, 400)
    assert random_crop_box(100, 110, (1.0, 1.0), rng) == (0, 0, 110, 100)


def test_a_crop_of_a_single_pixel_is_that_pixel() -> None:
    for attempts in (1, 10):
        assert random_crop_box(1, 1, (0.01, 0.02), np.random.default_rng(0), attempts=attempts) == (0, 0, 1, 1)


def test_every_place_of_a_crop_is_reached() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_crop_box(8, 8, (0.4, 0.6), rng) for _ in range(500)]
    assert {box.left for box in boxes} >= {0, 1, 2, 3}
    assert max(box.left + box.width for box in boxes) == 8
    assert min(box.top for box in boxes) == 0
    assert max(box.top + box.height for box in boxes) == 8


@pytest.mark.parametrize("shape", [(300, 300), (240, 480), (500, 220)])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.08, 1.0)])
def test_crops_are_distributed_as_those_of_torchvision(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    height, width = shape
    draws = 3000
    rng = np.random.default_rng(1)
    ours = np.array([random_crop_box(height, width, scale, rng) for _ in range(draws)], dtype=np.float64)
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(draws)]
    theirs = np.array([(left, top, w, h) for top, left, h, w in drawn], dtype=np.float64)

    def statistics(boxes: Any) -> Any:
        left, top, w, h = boxes.T
        quantities = np.stack([w * h / (height * width), np.log(w / h), left / width, top / height, w / width])
        return np.concatenate([quantities.mean(axis=1), quantities.std(axis=1), np.quantile(quantities[0], [0.1, 0.9])])

    # With 3,000 draws the standard error of these is at most 0.008.
    assert np.abs(statistics(ours) - statistics(theirs)).max() < 0.03


# Training


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("attempts", [1, 10])
def test_training_cuts_the_random_box_and_resizes_it(
    interpolation: Interpolation, channels: int, attempts: int
) -> None:
    pixels = picture(50, 80, channels)
    transform = TrainTransform(
        size=(24, 32), crop_scale=(0.2, 1.0), crop_attempts=attempts, flip=0.0, interpolation=interpolation, exact=True
    )
    for seed in range(10):
        box = random_crop_box(50, 80, (0.2, 1.0), np.random.default_rng(seed), attempts=attempts)
        cut = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        result = apply(transform, pixels, np.random.default_rng(seed))
        assert result.shape == (24, 32, channels)
        assert np.array_equal(result, by_pillow(cut, (24, 32), interpolation))


@pytest.mark.parametrize("policy", [None, POLICY])
def test_the_same_generator_gives_the_same_image_and_another_another(policy: str | None) -> None:
    transform = TrainTransform(size=(16, 16), crop_scale=(0.2, 1.0), rand_augment=policy)
    pixels = picture(40, 40)
    first, again, other = (apply(transform, pixels, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_flip_mirrors_the_same_crop() -> None:
    pixels = picture(40, 60)
    plain, mirrored = (
        apply(TrainTransform(size=(16, 24), crop_scale=(0.2, 1.0), flip=flip), pixels, np.random.default_rng(0))
        for flip in (0.0, 1.0)
    )
    assert np.array_equal(mirrored, plain[:, ::-1])


def test_half_of_the_images_are_flipped() -> None:
    pixels = picture(8, 8)
    transform = TrainTransform(size=(8, 8), crop_scale=(1.0, 1.0))
    results = [apply(transform, pixels, np.random.default_rng(seed)) for seed in range(400)]
    flipped = [not np.array_equal(result, pixels) for result in results]
    assert all(np.array_equal(result[:, ::-1], pixels) for result, flip in zip(results, flipped, strict=True) if flip)
    assert 160 <= sum(flipped) <= 240


def test_training_leaves_its_input_as_it_was() -> None:
    pixels = picture(20, 20)
    before = pixels.copy()
    transform = TrainTransform(size=(20, 20), crop_scale=(0.2, 1.0), rand_augment=POLICY)
    apply(transform, pixels, np.random.default_rng(0))
    assert np.array_equal(pixels, before)


# RandAugment


def states() -> tuple[Any, ...]:
    of_numpy: Any = np.random.get_state(legacy=False)
    words, position = of_numpy["state"]["key"].tolist(), of_numpy["state"]["pos"]
    return random.getstate(), words, position, torch.get_rng_state().tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_depends_on_the_generator_alone(channels: int) -> None:
    transform = TrainTransform(size=(24, 24), crop_scale=(0.5, 1.0), rand_augment=POLICY, fill=(128,) * channels)
    pixels = picture(40, 40, channels)
    results = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        results.append([apply(transform, pixels, np.random.default_rng(seed)) for seed in range(30)])
    assert all(np.array_equal(one, two) for one, two in zip(*results, strict=True))
    assert all(result.shape == (24, 24, channels) and result.dtype == np.uint8 for result in results[0])


def test_randaugment_leaves_the_global_generators_untouched() -> None:
    transform = TrainTransform(size=(24, 24), crop_scale=(0.5, 1.0), rand_augment=POLICY)
    before = states()
    for seed in range(5):
        apply(transform, picture(40, 40), np.random.default_rng(seed))
    assert states() == before


def test_randaugment_changes_most_images() -> None:
    pixels = picture(40, 40)
    plain = TrainTransform(size=(24, 24), crop_scale=(0.5, 1.0))
    augmented = TrainTransform(size=(24, 24), crop_scale=(0.5, 1.0), rand_augment=POLICY)
    differing = [
        not np.array_equal(
            apply(plain, pixels, np.random.default_rng(seed)), apply(augmented, pixels, np.random.default_rng(seed))
        )
        for seed in range(40)
    ]
    assert sum(differing) >= 30


@pytest.mark.parametrize("channels", [1, 3])
def test_the_strongest_posterising_leaves_black(channels: int) -> None:
    transform = TrainTransform(
        size=(8, 8), crop_scale=(1.0, 1.0), rand_augment="rand-m10-inc1-p1-n1", fill=(128,) * channels
    )
    transform._policy.ops = [op for op in transform._policy.ops if op.name == "PosterizeIncreasing"]
    result = apply(transform, picture(8, 8, channels), np.random.default_rng(0))
    assert result.shape == (8, 8, channels)
    assert not result.any()


@pytest.mark.parametrize("fill", [(77,), (10, 20, 30)])
def test_randaugment_fills_uncovered_corners_with_the_given_level(fill: tuple[int, ...]) -> None:
    constant = np.full((32, 32, len(fill)), 200, dtype=np.uint8)
    transform = TrainTransform(size=(32, 32), crop_scale=(1.0, 1.0), rand_augment=POLICY, fill=fill)
    found = set()
    for seed in range(60):
        result = apply(transform, constant, np.random.default_rng(seed))
        found |= {tuple(map(int, pixel)) for pixel in result.reshape(-1, len(fill))}
    assert fill in found


def test_seeded_globals_restore_the_generators_after_an_error() -> None:
    def fail() -> None:
        with seeded_globals(0):
            random.random()
            np.random.rand()
            raise RuntimeError

    before = states()
    with pytest.raises(RuntimeError):
        fail()
    assert states() == before


def test_seeded_globals_decide_what_is_drawn_inside() -> None:
    def draw(seed: int) -> tuple[float, float]:
        with seeded_globals(seed):
            return random.random(), float(np.random.rand())

    assert draw(1) == draw(1)
    assert draw(1)[0] != draw(2)[0]
    assert draw(1)[1] != draw(2)[1]


# Evaluation


@pytest.mark.parametrize(
    ("image", "resize_to", "target", "scaled"),
    [
        ((300, 500), 256, (224, 224), (256, 426)),  # wide
        ((500, 300), 256, (224, 224), (426, 256)),  # tall
        ((300, 300), 256, (224, 224), (256, 256)),  # square
        ((100, 120), 256, (224, 224), (256, 307)),  # smaller than the target
        ((28, 28), 28, (28, 28), (28, 28)),  # as it is
        ((300, 500), 256, (224, 448), (269, 448)),  # the width decides
        ((500, 300), 256, (448, 224), (448, 269)),  # the height decides
        ((500, 500), 256, (224, 448), (448, 448)),
        ((300, 900), 256, (224, 448), (256, 768)),  # 256 suffices for both sides
        ((301, 499), 257, (224, 225), (257, 426)),  # odd
    ],
)
def test_evaluation_takes_the_centre_of_the_image_at_its_own_aspect(
    image: tuple[int, int], resize_to: int, target: tuple[int, int], scaled: tuple[int, int]
) -> None:
    pixels = picture(*image)
    result = apply(EvalTransform(size=target, resize=resize_to, exact=True), pixels)
    top, left = round((scaled[0] - target[0]) / 2), round((scaled[1] - target[1]) / 2)
    expected = by_pillow(pixels, scaled)[top : top + target[0], left : left + target[1]]
    assert result.shape == (*target, 3)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("size", [(300, 500), (667, 1001), (333, 500), (100, 64)])
def test_evaluation_prepares_pictures_as_torchvision_does(size: tuple[int, int]) -> None:
    pixels = picture(*size)
    reference = v2.Compose([v2.Resize(73, v2.InterpolationMode.BICUBIC), v2.CenterCrop(64)])
    expected = np.asarray(reference(Image.fromarray(pixels)))
    assert np.array_equal(apply(EvalTransform(size=(64, 64), resize=73, exact=True), pixels), expected)


@settings(deadline=None)
@given(
    height=sides, width=sides, resize_to=st.integers(1, 64), target=st.tuples(st.integers(1, 64), st.integers(1, 64))
)
def test_evaluation_always_gives_the_target_size(
    height: int, width: int, resize_to: int, target: tuple[int, int]
) -> None:
    pixels = np.zeros((height, width, 1), dtype=np.uint8)
    assert apply(EvalTransform(size=target, resize=resize_to), pixels).shape == (*target, 1)


def test_evaluation_does_not_touch_the_generator() -> None:
    rng = np.random.default_rng(0)
    apply(EvalTransform(size=(8, 8), resize=9), picture(20, 30), rng)
    assert rng.random() == np.random.default_rng(0).random()


# Resizing and statistics


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(7, 90), (90, 7), (31, 47)])
def test_resize_equals_pillow(interpolation: Interpolation, channels: int, size: tuple[int, int]) -> None:
    pixels = picture(30, 48, channels)
    result = resize(pixels, size, interpolation)
    assert result.dtype == np.uint8
    assert np.array_equal(result, by_pillow(pixels, size, interpolation))


def test_resize_to_the_same_size_changes_nothing() -> None:
    pixels = picture(9, 13)
    assert np.array_equal(resize(pixels, (9, 13), "bicubic"), pixels)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.286,), (0.353,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.0,), (1.0,))]
)
def test_normalised_pixels_have_the_mean_subtracted_and_are_divided_by_the_deviation(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, len(mean), 5, 7), dtype=np.uint8)
    result = normalise_pixels(torch.from_numpy(images), mean, std)
    for channel in range(len(mean)):
        expected = (images[:, channel].astype(np.float64) / 255 - mean[channel]) / std[channel]
        assert np.abs(result[:, channel].double().numpy() - expected).max() < 1e-6
    assert result.dtype == torch.float32


def test_statistics_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        normalise_pixels(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), (0.5,), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(("dtype", "largest"), [("uint16", 65535), ("float32", 1)])
def test_deep_pixels_are_normalised_without_losing_depth(dtype: str, largest: int) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (2, 5, 4, 4)).astype(dtype)
    result = normalise_pixels(torch.from_numpy(levels), (0.25,) * 5, (0.5,) * 5)
    expected = (levels.astype(np.float64) / largest - 0.25) / 0.5
    assert np.abs(result.double().numpy() / expected - 1).max() < 1e-4
    assert len(np.unique(result.numpy())) == len(np.unique(levels))


# Pixels of other depths, and the fast path


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("exact", [True, False])
def test_every_depth_and_number_of_channels_is_resized_alike(kind: str, channels: int, exact: bool) -> None:
    pixels = picture(30, 48, channels)
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[kind]
    result = resize((pixels.astype(float) * scale).astype(kind), (20, 24), "bicubic", exact=exact)
    assert str(result.dtype) == kind
    assert result.shape == (20, 24, channels)
    difference = np.abs(result / scale - by_pillow(pixels, (20, 24)))
    assert difference.max() <= (0 if exact and kind == "uint8" and channels in (1, 3) else 2.5)


def test_resizing_16_bit_images_keeps_levels_that_8_bits_do_not_have() -> None:
    ramp = np.linspace(30000, 30200, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
    result = resize(ramp, (32, 32), "bicubic")
    assert len(np.unique(result)) > 100
    assert np.unique(result // 257).size <= 2


def test_overshoot_of_16_bit_edges_is_clipped_not_wrapped() -> None:
    edge = np.zeros((16, 16, 1), dtype=np.uint16)
    edge[:, 8:] = 65535
    result = resize(edge, (31, 31), "bicubic").astype(int)
    rising = np.diff(result[5, :, 0])
    assert (rising[12:17] >= 0).all()  # from the undershoot, clipped to black, to the overshoot, clipped to white
    assert result[:, :15].max() < 20000
    assert result[:, 17:].min() > 45000


@settings(deadline=None)
@given(height=sides, width=sides, size=st.tuples(targets, targets), seed=seeds)
def test_an_image_is_only_shrunk_as_far_as_its_crop_keeps_the_target_size(
    height: int, width: int, size: tuple[int, int], seed: int
) -> None:
    transform = TrainTransform(size=size, crop_scale=(0.2, 1.0))
    crop = transform.plan(height, width, np.random.default_rng(seed))
    shrink = transform.shrink(crop)
    assert shrink in (1, 2, 4, 8)
    if shrink > 1:
        assert crop.box.height >= shrink * size[0]
        assert crop.box.width >= shrink * size[1]
    if shrink < 8:
        assert crop.box.height < 2 * shrink * size[0] or crop.box.width < 2 * shrink * size[1]
    assert TrainTransform(size=size, crop_scale=(0.2, 1.0), exact=True).shrink(crop) == 1
    shrunk = np.zeros((-(-height // shrink), -(-width // shrink), 1), dtype=np.uint8)
    assert transform.cut(shrunk, crop, height, width).shape == (*size, 1)


def test_a_crop_of_a_shrunk_image_shows_the_same_region() -> None:
    whole = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, np.ones((16, 16, 1), dtype=np.uint8))
    transform = TrainTransform(size=(8, 8), crop_scale=(1.0, 1.0), flip=0.0, interpolation="bilinear")
    crop = Crop(Box(left=32, top=48, width=64, height=64))
    assert transform.shrink(crop) == 8
    expected = transform.cut(whole, crop, 128, 128)
    shrunk = whole.reshape(16, 8, 16, 8, 1).mean(axis=(1, 3)).astype(np.uint8)
    assert np.abs(transform.cut(shrunk, crop, 128, 128).astype(int) - expected).max() <= 8  # blocks differ by 4 and 32


def test_evaluation_shrinks_no_further_than_its_resized_image() -> None:
    transform = EvalTransform(size=(32, 32), resize=40)
    rng = np.random.default_rng(0)
    assert [transform.shrink(transform.plan(side, side + 9, rng)) for side in (559, 560, 1119, 1120, 2240)] == [
        1,
        2,
        2,
        4,
        8,
    ]
