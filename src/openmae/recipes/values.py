"""Values with a notation of their own: "224x448" is an image size, "5min" says how often."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from openmae.errors import UserError

Pooling = Literal["cls", "mean"]
Places: TypeAlias = str | Path | Sequence[str | Path]
"""The places of a data set: one, or several that are one data set."""
Pages = Literal["auto", "channels", "images", "first"]
Nodata = float | Literal["auto", "none"]
PixelRange = tuple[float, float]
"""The numbers in images that are black and white."""
TaskName = Literal["classification", "multilabel", "regression"]
ClassWeights = Literal["equal", "balanced"]


class ImageSize(NamedTuple):
    """Height and width in pixels.

    >>> ImageSize.parse("224"), str(ImageSize.parse("224x448"))
    (ImageSize(height=224, width=224), '224x448')
    """

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "ImageSize":
        """Read "224" or "224x448" (height x width)."""
        sides = re.fullmatch(r"0*([1-9]\d{0,8})(?:x0*([1-9]\d{0,8}))?", text, re.ASCII | re.IGNORECASE)
        if sides is None:
            raise UserError(f"{text!r} is not an image size; write 224, or 224x448 for height x width")
        return cls(int(sides[1]), int(sides[2] or sides[1]))

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


# ImageNet's habit: evaluate the central 224 of an image whose short side is 256.
RESIZE_FACTOR = 256 / 224
SMALL_IMAGE = 64


def usual_eval_resize(image_size: tuple[int, int]) -> int:
    """The short side before the centre is cropped, where nobody says otherwise: 256/224 of the image size.

    Of a picture below 64 pixels the border is part of the subject, so that nothing is cropped.

    >>> [usual_eval_resize((side, side)) for side in (28, 64, 224, 448)]
    [28, 73, 256, 512]
    """
    short = min(image_size)
    return short if short < SMALL_IMAGE else round(short * RESIZE_FACTOR)


class Every(NamedTuple):
    """How often something is done.

    >>> Every.parse("5min"), str(Every.parse("200 steps"))
    (Every(number=5.0, unit='min'), '200steps')
    """

    number: float
    unit: Literal["min", "steps", "epochs"]

    @classmethod
    def parse(cls, text: str) -> "Every":
        """Read "5min", "200steps" or "1epoch"."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *(min|step|epoch)(?:ute)?s?", text.strip().lower(), re.ASCII)
        units: dict[str, Literal["min", "steps", "epochs"]] = {"min": "min", "step": "steps", "epoch": "epochs"}
        number = float(found[1]) if found else math.inf
        if found is None or math.isinf(number) or (number == 0 and found[2] != "min"):
            raise UserError(f"{text!r} does not say how often; write 5min, 200steps or 1epoch")
        return cls(number, units[found[2]])

    def __str__(self) -> str:
        # Every digit, and never an exponent, which `parse` does not read.
        digits = f"{Decimal(repr(float(self.number))):f}"
        return f"{digits.removesuffix('.0')}{self.unit}"


def as_text(places: Places) -> str | tuple[str, ...]:
    """Places as a recipe stores them: one as text, several as a tuple of texts.

    >>> as_text(Path("photos")), as_text(["photos"]), as_text(["a", Path("b")])
    ('photos', 'photos', ('a', 'b'))
    """
    if isinstance(places, str | Path):
        return str(places)
    several = tuple(map(str, places))
    return several[0] if len(several) == 1 else several
