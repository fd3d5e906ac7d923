"""The same images with the same masks, as the network reconstructs them: one picture for each measurement."""

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from openmae.checkpoints.names import SAMPLES
from openmae.data.decoding import Pixels
from openmae.data.sources.own_output import sign_png
from openmae.evaluation.reconstructing import MASKED_GREY, visible_bands
from openmae.files import replacing, write_text

COLUMNS = ("original", "masked", "reconstruction")
# A small image is enlarged by a whole number, until its short side has so many pixels.
SHORT_SIDE = 96
ABOUT = "samples.json"


def draw_samples(pixels: Tensor, predicted: Tensor, hidden: Tensor) -> Pixels:
    """A row for each image, without borders: the original, what the network sees of it, and its reconstruction.

    Visible patches are shown as they are in the reconstruction too: nobody trains the network to predict them.

    Args:
        pixels: [N, C, H, W] as the loader gives them.
        predicted: [N, C, H, W], on the same scale.
        hidden: [N, H, W] of truth values.

    Returns:
        [N * height, 3 * width, 3] uint8, where height and width are a whole number of times H and W.
    """
    original, predicted = visible_bands(pixels, predicted)
    unseen = hidden.unsqueeze(1)
    columns = (original, original.masked_fill(unseen, MASKED_GREY), torch.where(unseen, predicted, original))
    drawn = torch.cat(columns, dim=3).nan_to_num(0).clamp(0, 255).round().byte()  # [N, 1 or 3, H, 3 W]
    larger = scale_of(pixels)
    drawn = drawn.repeat_interleave(larger, dim=2).repeat_interleave(larger, dim=3)
    return drawn.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).flatten(0, 1).contiguous().numpy()


def scale_of(pixels: Tensor) -> int:
    """How many times larger than the images [N, C, H, W] the cells of the picture are."""
    return max(1, -(-SHORT_SIDE // min(pixels.shape[-2:])))


def write_samples(run: Path, step: int, picture: Pixels, *, rows: int) -> None:
    """Write the picture of this step, and beside it how to cut it into cells.

    Raises:
        OSError: when the disk does not take them.
    """
    folder = run / SAMPLES
    folder.mkdir(exist_ok=True)
    height, width = picture.shape[0] // rows, picture.shape[1] // len(COLUMNS)
    about = json.dumps({"rows": rows, "cell": [height, width], "columns": list(COLUMNS)})
    if not (folder / ABOUT).is_file() or (folder / ABOUT).read_text(encoding="utf-8") != about:
        write_text(folder / ABOUT, about)
    with replacing(_file(folder, step)) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=sign_png())


def forget_samples(run: Path, *, after: int) -> None:
    """Remove the pictures of later steps, which are about to be made again."""
    for file in (run / SAMPLES).glob("step-*.png"):
        if file.name > _file(file.parent, after).name:
            file.unlink(missing_ok=True)


def _file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.png"
