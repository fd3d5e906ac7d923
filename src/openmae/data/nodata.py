"""Values that stand for "no data": one number that many pixels have, far from those of all others."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from openmae.data.decoding import BadImage, Nodata, Pixels, Reading, open_image
from openmae.data.sources import Source
from openmae.data.statistics import sample

SAMPLE = 64
# So many pixels have the value.
FEWEST, SMALLEST_SHARE = 16, 1e-4
# The distance to the nearest other value, as a share of the range of all others.
FAR, SURELY_FAR = 0.5, 1.0
# A larger number is a mark: 1e30, 9.97e36 of NetCDF, 3.4e38.
HUGE = 1e30
# Smaller whole numbers are written without a point.
EXACT = 1e15


class FarValue(NamedTuple):
    """The value, the share of the pixels that have it, the lowest and highest of all others, and whether it can hardly
    be data: floating-point, negative or huge, and further from the others than these from each other."""

    value: float
    share: float
    low: float
    high: float
    certain: bool

    @property
    def flag(self) -> str:
        """The flag that says that this value is no data."""
        return nodata_flag(self.value)

    def __str__(self) -> str:
        return (
            f"{100 * self.share:.3g} % of the numbers are exactly {self.value:g}, far from all others ({self.low:g} … "
            f"{self.high:g})"
        )


def nodata_flag(value: Nodata) -> str:
    """The flag that says that this value is no data, without loss of digits."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    return f"--nodata {value}"


class _End(NamedTuple):
    """The lowest number, how many there are of it, and the next one."""

    value: float = math.inf
    amount: int = 0
    following: float = math.inf

    def merged(self, other: "_End") -> "_End":
        first, second = sorted((self, other))
        if first.value == second.value:
            return _End(first.value, first.amount + second.amount, min(first.following, second.following))
        return _End(first.value, first.amount, min(first.following, second.value))


NOTHING = _End()


@dataclass(kw_only=True)
class Extremes:
    """The lowest and the highest of the `numbers` of many images; `high` has the signs turned."""

    numbers: int = 0
    floating: bool = False
    low: _End = NOTHING
    high: _End = NOTHING

    def add(self, pixels: Pixels) -> None:
        """Count one image [H, W, C]; NaN is left out."""
        flat = pixels.reshape(-1)
        floating = flat.dtype == np.float32
        flat = flat[~np.isnan(flat)] if floating else flat
        if not flat.size:
            return
        low, high = flat.min(), flat.max()
        above, below = flat > low, flat < high
        self.merge(
            Extremes(
                numbers=flat.size,
                floating=floating,
                low=_End(float(low), int(flat.size - np.count_nonzero(above)), _least(flat[above])),
                high=_End(-float(high), int(flat.size - np.count_nonzero(below)), -_most(flat[below])),
            )
        )

    def merge(self, other: "Extremes") -> None:
        """Add the numbers of other images."""
        self.numbers += other.numbers
        self.floating |= other.floating
        self.low, self.high = self.low.merged(other.low), self.high.merged(other.high)

    def far_value(self) -> FarValue | None:
        """The lowest or highest number, if it is far from all others; None when neither is."""
        ends = (
            (self.low.value, self.low.amount, self.low.following, -self.high.value),
            (-self.high.value, self.high.amount, self.low.value, -self.high.following),
        )
        for value, count, low, high in ends:
            spread, distance = high - low, max(low - value, value - high)
            if not (0 < spread < math.inf and count >= max(FEWEST, SMALLEST_SHARE * self.numbers)):
                continue
            if distance >= FAR * spread:
                certain = self.floating and (value < 0 or value > HUGE) and distance >= SURELY_FAR * spread
                return FarValue(value, count / self.numbers, low, high, certain)
        return None


def _least(numbers: Pixels) -> float:
    return float(numbers.min()) if numbers.size else math.inf


def _most(numbers: Pixels) -> float:
    return float(numbers.max()) if numbers.size else -math.inf


def find_far_value(source: Source, reading: Reading) -> FarValue | None:
    """The value in a sample of the images that is far from all others, and may stand for "no data".

    Images of 8 bits are left out: none of their values is far from the others.
    """
    extremes = Extremes()
    for index in sample(len(source), SAMPLE):
        try:
            opened = open_image(source.read(index), reading)
            if opened.stored.kind != "uint8":
                extremes.add(opened.decode(opened.stored))
        except (BadImage, OSError):
            continue
    return extremes.far_value()
