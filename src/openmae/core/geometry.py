"""How a signal is cut into patches: its size, the patch size and the grid, for one, two and three axes.

A signal with one axis is a series, with two an image, with three a volume or a video. The outermost axis comes first:
(length,), (height, width), (depth, height, width) or (frames, height, width).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from torch import Tensor

from openmae.errors import UserError

MOST_AXES = 3


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The size of a signal and of the patches that fill it exactly, in samples (pixels, voxels) along each axis.

    Raises:
        UserError: when the numbers of axes differ or are not 1, 2 or 3, when a side is below 1, or when the patch size
            does not divide the size.

    >>> geometry = Geometry(size=(224, 448), patch=(16, 16))
    >>> geometry.grid, geometry.patches, geometry.patch_values(channels=3)
    ((14, 28), 392, 768)
    """

    size: tuple[int, ...]
    patch: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size) != len(self.patch) or not 1 <= len(self.size) <= MOST_AXES:
            raise UserError(
                f"the size has {len(self.size)} axes and the patch size {len(self.patch)}; give both the same number, "
                f"from 1 to {MOST_AXES}"
            )
        if min(*self.size, *self.patch) < 1:
            raise UserError(
                f"a size of {size_text(self.size)} with patches of {size_text(self.patch)} is not possible; every side "
                "must be at least 1"
            )
        if any(side % patch for side, patch in zip(self.size, self.patch, strict=True)):
            kind, setting = ("an image", "--image-size") if self.axes == 2 else ("a signal", "a size of")
            fitting = [max(1, round(side / patch)) * patch for side, patch in zip(self.size, self.patch, strict=True)]
            raise UserError(
                f"{kind} of {size_text(self.size)} is not a multiple of the patch size {size_text(self.patch)}; use "
                f"{setting} {size_text(fitting)} or a patch size that divides {' and '.join(map(str, self.size))}"
            )

    @property
    def axes(self) -> int:
        """The number of axes: 1, 2 or 3."""
        return len(self.size)

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of patches along each axis."""
        return tuple(side // patch for side, patch in zip(self.size, self.patch, strict=True))

    @property
    def patches(self) -> int:
        """L, the number of patches of one signal."""
        return prod(self.grid)

    def patch_values(self, channels: int) -> int:
        """P, the number of values in one patch of a signal with `channels` channels."""
        return prod(self.patch) * channels

    def patchify(self, signal: Tensor) -> Tensor:
        """Cut signals [B, C, *size] into patches [B, L, P].

        Patches are in the grid's row-major order; the values of one patch are in (patch axes …, channel) order, for
        images (row, column, channel).

        Raises:
            UserError: when the signals are of another size.
        """
        batch, channels, *size = signal.shape
        if tuple(size) != self.size:
            raise UserError(
                f"a signal of {size_text(size)} was given where one of {size_text(self.size)} is expected; resize it, "
                "or build the model for its size"
            )
        axes = range(self.axes)
        split = signal.reshape(batch, channels, *_alternating(self.grid, self.patch))  # [B, C, g1, p1, g2, p2, …]
        sorted_axes = split.permute(0, *(2 + 2 * axis for axis in axes), *(3 + 2 * axis for axis in axes), 1)
        return sorted_axes.reshape(batch, self.patches, self.patch_values(channels))  # [B, L, P]

    def unpatchify(self, patches_BLP: Tensor) -> Tensor:
        """Put patches [B, L, P] together to signals [B, C, *size]: the inverse of `patchify`."""
        batch, _, values = patches_BLP.shape
        channels = values // prod(self.patch)
        axes = range(self.axes)
        split = patches_BLP.reshape(batch, *self.grid, *self.patch, channels)  # [B, g1, g2, …, p1, p2, …, C]
        places = _alternating([1 + axis for axis in axes], [1 + self.axes + axis for axis in axes])
        return split.permute(0, 1 + 2 * self.axes, *places).reshape(batch, channels, *self.size)  # [B, C, *size]


def size_text(sizes: Iterable[int]) -> str:
    """Sizes as a person writes them.

    >>> size_text((224, 448))
    '224x448'
    """
    return "x".join(map(str, sizes))


def _alternating(first: Iterable[int], second: Iterable[int]) -> list[int]:
    """The values of two sequences in turn: first[0], second[0], first[1], …"""
    return [value for pair in zip(first, second, strict=True) for value in pair]
