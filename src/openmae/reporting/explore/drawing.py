"""Arrays of the network as pictures that a screen can show."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmae.data.decoding import Pixels
from openmae.evaluation.reconstructing import MASKED_GREY, visible_bands

V = TypeVar("V", bound=np.generic)
SHOWN = 448
"""Small images are enlarged by whole numbers until they are about so many pixels high."""
GRID = 0.30
DARK_TO_BRIGHT = np.array(
    [(13, 8, 35), (66, 20, 98), (135, 35, 101), (202, 67, 77), (241, 120, 44), (250, 190, 60), (252, 253, 191)],
    dtype=np.float32,
)
"""Evenly spaced, and each lighter than the one before: also to those who do not see colours."""


def as_colours(pixels: Pixels) -> Pixels:
    """Pixels [H, W, C] of any kind as [H, W, 3] uint8; see `visible_bands`."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).unsqueeze(0)
    return to_bytes(visible_bands(image, image.float())[0])


def to_bytes(image: Tensor) -> Pixels:
    """[1, 1 or 3, H, W] in 0 … 255 as [H, W, 3] uint8."""
    shown = image[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown


def enlarged(picture: Pixels) -> Pixels:
    """A small picture with each pixel as a square of several."""
    factor = max(1, round(SHOWN / picture.shape[0]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def over_patches(values: NDArray[V], picture: NDArray[Any]) -> NDArray[V]:
    """Values of patches [rows, columns] for every pixel of the picture."""
    rows, columns = values.shape[:2]
    return values.repeat(picture.shape[0] // rows, axis=0).repeat(picture.shape[1] // columns, axis=1)


def masked(picture: Pixels, hidden: NDArray[np.bool_]) -> Pixels:
    """The picture with its hidden patches in grey, and lines between the patches."""
    large = enlarged(picture).astype(np.float32)
    here = over_patches(hidden, large)[..., None]
    large = np.where(here, MASKED_GREY, large)
    rows, columns = hidden.shape
    height, width = large.shape[0] // rows, large.shape[1] // columns
    lines = np.zeros(large.shape[:2], dtype=bool)
    lines[height::height] = True
    lines[:, width::width] = True
    return np.where(lines[..., None], large * (1 - GRID) + 255 * GRID, large).round().astype(np.uint8)


def heat(values: NDArray[np.floating], *, largest: float | None = None) -> Pixels:
    """Values [rows, columns] from dark (0) to bright (`largest`, or the largest of them) as [rows, columns, 3]."""
    top = float(np.nanmax(values)) if largest is None else largest
    places = np.nan_to_num(values / max(top, 1e-12)).clip(0, 1) * (len(DARK_TO_BRIGHT) - 1)
    below = places.astype(int).clip(0, len(DARK_TO_BRIGHT) - 2)
    share = (places - below)[..., None]
    colours: Pixels = (DARK_TO_BRIGHT[below] * (1 - share) + DARK_TO_BRIGHT[below + 1] * share).round().astype(np.uint8)
    return colours


def heat_over(picture: Pixels, values: NDArray[np.floating], *, missing: NDArray[np.bool_] | None = None) -> Pixels:
    """Values of patches over the grey picture; patches that are `missing` show the picture alone."""
    large = enlarged(picture)
    grey = large.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    colours = over_patches(heat(values), large).astype(np.float32)
    mixed = 0.35 * grey + 0.65 * colours
    if missing is not None:
        mixed = np.where(over_patches(missing, large)[..., None], 0.5 * grey + 100, mixed)
    shown: Pixels = mixed.round().clip(0, 255).astype(np.uint8)
    return shown
