"""Pictures as text that an HTML file can hold."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITY = 82
SMALL = 96
"""Pictures below so many pixels are enlarged with their pixels visible."""
HEAT = np.array([[13, 8, 60], [120, 28, 109], [203, 70, 71], [246, 144, 30], [252, 250, 150]], dtype=np.float32)
"""From little to much attention: dark blue, purple, red, orange, yellow; brighter for more, for whoever sees no hue."""


class Picture:
    """A picture inside the page.

    Args:
        pixels: [H, W], [H, W, 1] or [H, W, 3] uint8.
        longest: the longest side to keep, in pixels.
    """

    def __init__(self, pixels: NDArray[np.uint8], *, longest: int = 224) -> None:
        image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        if max(image.size) > longest:
            image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        self.width, self.height = image.size
        small = max(image.size) <= SMALL
        file = io.BytesIO()
        image.convert("RGB").save(file, "WEBP", quality=92 if small else QUALITY, method=4)
        self.uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        self.pixelated = small


def heat(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Numbers [H, W] as colours [H, W, 3], from the smallest to the largest."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(scaled, places, HEAT[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def enlarged(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The same picture in another size, each pixel a rectangle."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
