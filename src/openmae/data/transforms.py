"""Crops, flips and augmentation of single images, each a function of the image and a random generator."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import RandAugment, posterize, rand_augment_transform
from torch import Tensor
from torch.nn import functional as F

from openmae.data.decoding import LARGEST, SHRINKS, Pixels
from openmae.errors import UserError

Mask = NDArray[np.integer[Any]]
"""The class of every pixel, [H, W]."""
Interpolation = Literal["bicubic", "bilinear"]
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
ASPECT_RATIOS = (3 / 4, 4 / 3)
# For evaluation a JPEG is decoded at least this many times as large as it will be, and with so many pixels on its short
# side: reduced further by the decoder, it would give other features than a picture that is decoded whole.
EVALUATION_MARGIN, EVALUATION_SIDE = 2, 256


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


class Crop(NamedTuple):
    """A crop of an image, drawn before decoding, so that the image is decoded no larger than the crop needs."""

    box: Box
    flipped: bool = False
    seed: int = 0
    """Of RandAugment."""


class Transform(Protocol):
    """Pixels of any size to pixels of one size."""

    def plan(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw a crop of an image of this size; only this method draws random numbers."""
        ...

    def shrink(self, crop: Crop) -> int:
        """The factor (1, 2, 4 or 8) by which the image may be decoded smaller without losing pixels the crop needs."""
        ...

    def cut(self, pixels: Pixels, crop: Crop, height: int, width: int) -> Pixels:
        """Carry out the plan on the pixels [H, W, C] of an image that was planned as height x width."""
        ...

    def cut_mask(self, mask: Mask, crop: Crop, height: int, width: int) -> Mask:
        """Carry out the same plan on the mask [H, W] of that image: each result pixel takes its nearest neighbour."""
        ...


def apply(transform: Transform, pixels: Pixels, rng: np.random.Generator | None = None) -> Pixels:
    """Plan and cut at once, for pixels [H, W, C] that are decoded already; a random transform needs `rng`."""
    height, width, _ = pixels.shape
    return transform.cut(pixels, transform.plan(height, width, rng or np.random.default_rng(0)), height, width)


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random resized crop, horizontal flip, and RandAugment where the recipe wants it.

    Args:
        size: (height, width) of the result.
        crop_scale: smallest and largest share of the area that a crop takes.
        crop_attempts: see `random_crop_box`.
        flip: probability of a horizontal flip.
        exact: resize as Pillow does, see `resize`.
        rand_augment: a timm RandAugment policy such as "rand-m9-mstd0.5-inc1", or None; for 8-bit grey and colour.
        fill: the grey level of each channel that RandAugment fills uncovered corners with.
    """

    size: tuple[int, int]
    crop_scale: tuple[float, float]
    crop_attempts: int = 10
    flip: float = 0.5
    interpolation: Interpolation = "bicubic"
    exact: bool = False
    rand_augment: str | None = None
    fill: tuple[int, ...] = (128, 128, 128)

    def plan(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        box = random_crop_box(height, width, self.crop_scale, rng, attempts=self.crop_attempts)
        flipped = bool(rng.random() < self.flip)
        return Crop(box, flipped, int(rng.integers(2**32)) if self.rand_augment is not None else 0)

    def shrink(self, crop: Crop) -> int:
        return 1 if self.exact else _shrink(crop.box, self.size)

    def cut(self, pixels: Pixels, crop: Crop, height: int, width: int) -> Pixels:
        box = _scaled(crop.box, pixels.shape[0] / height, pixels.shape[1] / width)
        region = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        result = resize(region, self.size, self.interpolation, exact=self.exact)
        if crop.flipped:
            result = _mirrored(result)
        if self.rand_augment is not None:
            with seeded_globals(crop.seed):
                result = _to_array(self._policy(_to_image(result)))
        return result

    def cut_mask(self, mask: Mask, crop: Crop, height: int, width: int) -> Mask:
        if self.rand_augment is not None:
            raise UserError("RandAugment moves pixels and a mask would not follow them; add --rand-augment None")
        box = _scaled(crop.box, mask.shape[0] / height, mask.shape[1] / width)
        region = mask[box.top : box.top + box.height, box.left : box.left + box.width]
        result = resize_nearest(region, self.size)
        return result[:, ::-1] if crop.flipped else result

    @cached_property
    def _policy(self) -> RandAugment:
        options = {
            "translate_const": int(min(self.size) * 0.45),
            "img_mean": self.fill if len(self.fill) > 1 else self.fill[0],
            "interpolation": RESAMPLING[self.interpolation],
        }
        policy: RandAugment = rand_augment_transform(self.rand_augment, options)
        for operation in policy.ops:
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterize
        return policy


@dataclass(frozen=True, kw_only=True)
class EvalTransform:
    """Resize the short side to `resize`, then take the central crop of `size` (height, width)."""

    size: tuple[int, int]
    resize: int
    interpolation: Interpolation = "bicubic"
    exact: bool = False

    def plan(self, height: int, width: int, rng: np.random.Generator) -> Crop:  # noqa: ARG002  # nothing is random here
        return Crop(Box(0, 0, width, height))

    def shrink(self, crop: Crop) -> int:
        if self.exact:
            return 1
        height, width = self._scaled_size(crop.box.height, crop.box.width)
        margin = max(EVALUATION_MARGIN, -(-EVALUATION_SIDE // min(height, width)))
        return _shrink(crop.box, (margin * height, margin * width))

    def cut(self, pixels: Pixels, crop: Crop, height: int, width: int) -> Pixels:  # noqa: ARG002
        scaled = self._scaled_size(height, width)
        result = resize(pixels, scaled, self.interpolation, exact=self.exact)
        top, left = self._corner(scaled)
        return result[top : top + self.size[0], left : left + self.size[1]]

    def cut_mask(self, mask: Mask, crop: Crop, height: int, width: int) -> Mask:  # noqa: ARG002
        scaled = self._scaled_size(height, width)
        top, left = self._corner(scaled)
        return resize_nearest(mask, scaled)[top : top + self.size[0], left : left + self.size[1]]

    def _corner(self, scaled: tuple[int, int]) -> tuple[int, int]:
        """Top and left of the central crop, rounded as torchvision does it."""
        return round((scaled[0] - self.size[0]) / 2), round((scaled[1] - self.size[1]) / 2)

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        if self.size[0] == self.size[1]:
            # The long side is rounded down, as in torchvision and so in the reference and in timm.
            short, resized = min(height, width), max(self.resize, self.size[0])
            return resized * height // short, resized * width // short
        # For a target that is not square, one side must be longer than `resize`.
        factor = max(self.resize / min(height, width), self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * factor)), max(self.size[1], round(width * factor))


def _shrink(box: Box, size: tuple[int, int]) -> int:
    """The largest reduction that leaves the box at least `size` (height, width) large."""
    return next(factor for factor in SHRINKS if factor == 1 or _covers(box, size, factor))


def _covers(box: Box, size: tuple[int, int], factor: int) -> bool:
    return box.height >= factor * size[0] and box.width >= factor * size[1]


def _scaled(box: Box, down: float, across: float) -> Box:
    """The box in an image that was decoded smaller, rounded to whole pixels."""
    if down == across == 1:
        return box
    top, bottom = round(box.top * down), round((box.top + box.height) * down)
    left, right = round(box.left * across), round((box.left + box.width) * across)
    return Box(left, top, right - left, bottom - top)


def resize(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation, *, exact: bool = True) -> Pixels:
    """Resize [H, W, C] of any type to (height, width), antialiased.

    With `exact`, Pillow resizes 8-bit grey and colour. Otherwise torch does, by the same filters in vector
    instructions, which differs by rounding. All other pixels are resized by torch in single precision.
    """
    if pixels.shape[:2] == size:
        return pixels
    eight_bit = pixels.dtype == np.uint8
    if exact and eight_bit and pixels.shape[2] in (1, 3):
        return _to_array(_to_image(pixels).resize((size[1], size[0]), RESAMPLING[interpolation]))
    image = _to_tensor(pixels if eight_bit else pixels.astype(np.float32))
    resized = F.interpolate(image, size, mode=interpolation, antialias=True)[0].permute(1, 2, 0).numpy()
    if pixels.dtype == np.uint16:
        return resized.round().clip(0, LARGEST["uint16"]).astype(np.uint16)
    return resized


def resize_nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize [H, W] to (height, width): each pixel takes the value of the one whose centre is nearest."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for old, new in zip(mask.shape, size, strict=True)
    )
    resized: Mask = mask[rows[:, None], columns]
    return resized


def normalise_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8, uint16 or float32 [B, C, H, W] to torch's default type, on the images' own device.

    `mean` and `std` are of pixels in 0 … 1, or, for float32 images, of the pixels as they are.
    """
    largest = LARGEST[str(images.dtype).removeprefix("torch.")]
    shift, scale = _affine(tuple(mean), tuple(std), largest, images.device, torch.get_default_dtype())
    return torch.addcmul(shift, images.to(scale.dtype), scale)


@cache
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], largest: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Shift and scale, each [1, C, 1, 1]; cached, because making them would stall a GPU at every step."""
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device, dtype=dtype)
    scale = torch.tensor([1 / (largest * s) for s in std], device=device, dtype=dtype)
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


def _posterize(image: Image.Image, bits: int, **others: Any) -> Image.Image:
    """timm's posterize. The strongest keeps 0 bits: Pillow made that black until version 13, and refuses it since."""
    return posterize(image, bits, **others) if bits else Image.new(image.mode, image.size)


def _mirrored(pixels: Pixels) -> Pixels:
    """Flip left to right; torch is seven times as fast as numpy."""
    return _to_tensor(pixels).flip(-1)[0].permute(1, 2, 0).numpy()


def _to_tensor(pixels: Pixels) -> Tensor:
    """[H, W, C] to [1, C, H, W], channels last in memory; a copy only where the array may not be written to."""
    # First unsqueeze, then permute: in the other order torch reads channels-first from the strides.
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).unsqueeze(0).permute(0, 3, 1, 2)


def _to_image(pixels: Pixels) -> Image.Image:
    grey = pixels.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))


def _to_array(image: Image.Image) -> Pixels:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array
