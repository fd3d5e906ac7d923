"""Crops, flips and augmentation of single images, each a function of the image and a random generator."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from openmae.data.decoding import Pixels

Interpolation = Literal["bicubic", "bilinear"]
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
ASPECT_RATIOS = (3 / 4, 4 / 3)


class Box(NamedTuple):
    """A rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int


def random_crop_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator, *, attempts: int = 10
) -> Box:
    """A box whose share of the image's area is uniform in `scale` and whose aspect is log-uniform in 3/4 … 4/3.

    A box that does not fit is drawn again, up to `attempts` times, then the largest central box of a permitted aspect
    is taken (torchvision's RandomResizedCrop). With `attempts=1` a box that does not fit is clipped to the image
    instead: the single draw that the reference uses for linear evaluation.
    """
    area = height * width
    for _ in range(attempts):
        target = area * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])))
        box_width, box_height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if attempts == 1:
            box_width, box_height = min(box_width, width), min(box_height, height)
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(rng.integers(width - box_width + 1)), int(rng.integers(height - box_height + 1))
            return Box(left, top, box_width, box_height)
    aspect = min(max(width / height, ASPECT_RATIOS[0]), ASPECT_RATIOS[1])
    box_width, box_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Box((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random resized crop, horizontal flip, and RandAugment where the recipe wants it.

    Args:
        size: (height, width) of the result.
        crop_scale: smallest and largest share of the area that a crop takes.
        crop_attempts: see `random_crop_box`.
        flip: probability of a horizontal flip.
        rand_augment: a timm RandAugment policy such as "rand-m9-mstd0.5-inc1", or None.
        fill: grey levels that RandAugment fills uncovered corners with, one a channel.
    """

    size: tuple[int, int]
    crop_scale: tuple[float, float]
    crop_attempts: int = 10
    flip: float = 0.5
    interpolation: Interpolation = "bicubic"
    rand_augment: str | None = None
    fill: tuple[int, ...] = (128, 128, 128)

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """[H, W, C] to [height, width, C]."""
        height, width, _ = pixels.shape
        box = random_crop_box(height, width, self.crop_scale, rng, attempts=self.crop_attempts)
        crop = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        result = resize(crop, self.size, self.interpolation)
        if rng.random() < self.flip:
            result = result[:, ::-1]
        if self.rand_augment is not None:
            with seeded_globals(int(rng.integers(2**32))):
                result = _to_array(self._policy(_to_image(result)))
        return np.ascontiguousarray(result)

    @cached_property
    def _policy(self) -> Callable[[Image.Image], Image.Image]:
        options = {
            "translate_const": int(min(self.size) * 0.45),
            "img_mean": self.fill if len(self.fill) > 1 else self.fill[0],
            "interpolation": RESAMPLING[self.interpolation],
        }
        policy: Callable[[Image.Image], Image.Image] = rand_augment_transform(self.rand_augment, options)
        return policy


@dataclass(frozen=True, kw_only=True)
class EvalTransform:
    """Resize the short side to `resize`, then take the central crop of `size` (height, width)."""

    size: tuple[int, int]
    resize: int
    interpolation: Interpolation = "bicubic"

    def __call__(self, pixels: Pixels, _: np.random.Generator | None = None) -> Pixels:
        """[H, W, C] to [height, width, C]; nothing is random here, the generator is not touched."""
        height, width = pixels.shape[:2]
        # A target that is not square needs more than `resize` on one of its sides.
        factor = max(self.resize / min(height, width), self.size[0] / height, self.size[1] / width)
        scaled = max(self.size[0], round(height * factor)), max(self.size[1], round(width * factor))
        result = resize(pixels, scaled, self.interpolation)
        top, left = (scaled[0] - self.size[0]) // 2, (scaled[1] - self.size[1]) // 2
        return np.ascontiguousarray(result[top : top + self.size[0], left : left + self.size[1]])


def resize(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """Resize [H, W, C] to (height, width) with Pillow's antialiased filters."""
    if pixels.shape[:2] == size:
        return pixels
    return _to_array(_to_image(pixels).resize((size[1], size[0]), RESAMPLING[interpolation]))


def normalise_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [B, C, H, W] to float32 with the given statistics of pixels in 0 … 1, on the images' own device."""
    shift, scale = _affine(tuple(mean), tuple(std), images.device)
    return torch.addcmul(shift, images.to(scale.dtype), scale)


@cache
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Shift and scale, each [1, C, 1, 1]; kept, because making them anew would halt a GPU at every step."""
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    return shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed Python's and numpy's global generators for one call of a library that draws from them, then restore them."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _to_image(pixels: Pixels) -> Image.Image:
    grey = pixels.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))


def _to_array(image: Image.Image) -> Pixels:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array
