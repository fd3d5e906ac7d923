"""Image bytes to uint8 arrays. What cannot be decoded in full is refused, never guessed."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

MODES = {1: "L", 3: "RGB"}
# Modes whose conversion to 8 bits by Pillow would clip instead of scale.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class BadImage(Exception):
    """An image that cannot be decoded; the message is the reason, for people."""


def decode(data: bytes, channels: int) -> Pixels:
    """Decode to [H, W, C] uint8, C = 1 (grey) or 3 (RGB), upright as its EXIF orientation says.

    Raises:
        BadImage: when the bytes are no image, end too early, claim a size that only an attack would have, or hold grey
            levels of more than 8 bits. (Of 16-bit colour Pillow gives the upper 8 bits.)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Corrupt EXIF or ICC blocks do not change the pixels.
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(io.BytesIO(data)) as image:
                if image.mode in DEEP_MODES:
                    raise BadImage(f"more than 8 bits a channel (mode {image.mode})")
                image.draft(MODES[channels], image.size)
                upright = ImageOps.exif_transpose(image).convert(MODES[channels])
                return np.asarray(upright).reshape(upright.height, upright.width, channels)
    except BadImage:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        reason = str(error) if not isinstance(error, UnidentifiedImageError) else "not an image"
        raise BadImage(reason or type(error).__name__) from error
