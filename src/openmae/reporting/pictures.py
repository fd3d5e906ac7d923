"""Pictures of reconstructions: original, masked, reconstruction, reconstruction with the visible patches pasted in."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from openmae.core.masking import Mask, kept_count, mask_from_noise
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.data.decoding import BadImage, Pages, Pixels, decode, why_unreadable
from openmae.data.pages import pages_of
from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import Source
from openmae.data.sources.own_output import require_replaceable, sign_png
from openmae.data.transforms import apply, normalise_pixels
from openmae.errors import UserError
from openmae.evaluation.forward import evaluation_transform
from openmae.evaluation.reconstructing import MASKED_GREY, is_visible, pixels_of, visible_bands
from openmae.recipes.values import PixelRange
from openmae.training.deep_pixels import network_for, network_for_sources
from openmae.training.pixels import pixel_format, reading_of
from openmae.weights.building import LoadedAutoencoder, load_autoencoder

COLUMNS = ("original", "masked", "reconstruction", "with visible patches")
NORMALISED_CAPTION = (
    "The target is normalised per patch: hidden patches take their mean and contrast from the original."
)
VISIBLE_CAPTION = "Visible patches (the noisy ones in the reconstruction) are not trained to be predicted."
BANDS_CAPTION = "the first are shown, stretched from the 2nd to the 98th percentile of the original."
SMALLEST_TILE = 140
GAP, MARGIN, HEADER, FOOTER = 6, 14, 26, 20
INK, PAPER = (30, 30, 30), (255, 255, 255)


def reconstruct(
    weights: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
) -> Path:
    """Write a PNG with one row for each image file.

    Raises:
        UserError: when the weights have no decoder, an image cannot be read, or `out` cannot be written.
    """
    if not images:
        raise UserError("no images to reconstruct; name image files, or a data set with --data")
    require_replaceable(out)
    loaded = load_autoencoder(weights)
    reading = reading_of(loaded.network, pages=pages, max_pixels=max_pixels)
    loaded = loaded._replace(network=network_for(loaded.network, _contents(images), reading, pixel_range=pixel_range))
    arrays = []
    for path in images:
        try:
            arrays.append(decode(path.read_bytes(), pixel_format(loaded.network), reading))
        except (BadImage, OSError) as error:
            raise UserError(f"{path} cannot be read ({why_unreadable(error)}); leave it out or repair it") from error
    return write_picture(loaded, arrays, out, mask_ratio=mask_ratio, seed=seed)


def _contents(images: Sequence[Path]) -> Iterator[bytes]:
    for path in images:
        with suppress(OSError):
            yield path.read_bytes()


def reconstruct_sample(
    weights: str | Path,
    source: Source,
    out: Path,
    *,
    rows: int,
    mask_ratio: float | None = None,
    seed: int = 0,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
) -> Path:
    """Write the same picture for `rows` readable images drawn from a source.

    Raises:
        UserError: when none of them can be read, and as `reconstruct` does.
    """
    require_replaceable(out)
    loaded = load_autoencoder(weights)
    reading = reading_of(loaded.network, pages=pages, max_pixels=max_pixels)
    source = pages_of(source, reading)
    loaded = loaded._replace(network=network_for_sources(loaded.network, [source], reading, pixel_range=pixel_range))
    arrays: list[Pixels] = []
    why = "it is empty"
    for index in random_stream(seed, Stream.SUBSET).permutation(len(source)):
        if len(arrays) == rows:
            break
        try:
            arrays.append(decode(source.read(int(index)), pixel_format(loaded.network), reading))
        except (BadImage, OSError) as error:
            why = f"{source.name(int(index))}: {why_unreadable(error)}"
    if not arrays:
        raise UserError(f"none of the images can be reconstructed ({why}); give images like those of the training")
    return write_picture(loaded, arrays, out, mask_ratio=mask_ratio, seed=seed)


def write_picture(
    loaded: LoadedAutoencoder,
    images: Sequence[Pixels],
    out: Path,
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
) -> Path:
    """Mask, reconstruct and draw decoded images [H, W, C]; the i-th image gets the i-th mask of the seed."""
    model, network = loaded.model, loaded.network
    transform = evaluation_transform(network)
    cropped = np.stack([apply(transform, image) for image in images])
    noise = np.stack(
        [
            random_stream(seed, Stream.MASK, index=row).random(model.geometry.patches, dtype=np.float32)
            for row in range(len(images))
        ]
    )
    ratio = loaded.mask_ratio if mask_ratio is None else mask_ratio
    mask = mask_from_noise(torch.from_numpy(noise), kept_count(model.geometry.patches, ratio), model.geometry.grid)
    pixels = torch.from_numpy(cropped).permute(0, 3, 1, 2)
    predicted = predict_pixels(model, network, pixels, mask)
    panels = reconstruction_panels(model, *visible_bands(pixels, predicted), mask.as_grid())
    captions = [NORMALISED_CAPTION] if network.normalise_target else []
    if not is_visible(pixels):
        captions.append(f"{network.channels} bands of {network.pixel_type}: {BANDS_CAPTION}")
    picture = draw_rows(panels, caption="\n".join([*captions, VISIBLE_CAPTION]))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(out, format="PNG", pnginfo=sign_png())
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); give --out a file in a folder that you may write"
        ) from error
    return out


@torch.inference_mode()
def predict_pixels(model: MaskedAutoencoder, network: Network, pixels: Tensor, mask: Mask) -> Tensor:
    """Predicted pixels [B, C, H, W] on the scale of `pixels`; normalised patches get their true statistics back."""
    images = normalise_pixels(pixels, network.mean, network.std)
    prediction = model(images, mask).prediction
    return pixels_of(prediction, images, model.geometry, network, pixels.dtype)


def reconstruction_panels(
    model: MaskedAutoencoder, original: Tensor, predicted: Tensor, hidden: Tensor
) -> list[tuple[Pixels, ...]]:
    """The four panels of every row, each [H, W, C] uint8."""
    height, width = model.geometry.patch
    hidden_pixels = hidden.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2).unsqueeze(1)
    panels = (
        original,
        original.masked_fill(hidden_pixels, MASKED_GREY),
        predicted,
        torch.where(hidden_pixels, predicted, original),
    )
    arrays = [panel.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy() for panel in panels]
    return list(zip(*arrays, strict=True))


def draw_rows(rows: Sequence[Sequence[Pixels]], *, caption: str) -> Image.Image:
    """Lay the panels out under their headings, small images enlarged so that each pixel stays visible."""
    height, width = rows[0][0].shape[:2]
    factor = max(1, -(-SMALLEST_TILE // min(height, width)))
    tile_height, tile_width = height * factor, width * factor
    font = ImageFont.load_default(size=13)
    canvas_width = 2 * MARGIN + len(COLUMNS) * (tile_width + GAP) - GAP
    footer = FOOTER * len(caption.splitlines())
    canvas_height = 2 * MARGIN + HEADER + len(rows) * (tile_height + GAP) + footer
    canvas = Image.new("RGB", (canvas_width, canvas_height), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, title in enumerate(COLUMNS):
        centre = MARGIN + column * (tile_width + GAP) + tile_width // 2
        pen.text((centre, MARGIN + HEADER // 2 - 4), title, fill=INK, font=font, anchor="mm")
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            tile = Image.fromarray(panel[:, :, 0] if panel.shape[2] == 1 else panel)
            corner = (MARGIN + column * (tile_width + GAP), MARGIN + HEADER + row * (tile_height + GAP))
            canvas.paste(tile.resize((tile_width, tile_height), Image.Resampling.NEAREST), corner)
    for number, line in enumerate(caption.splitlines()):
        height_of_line = canvas_height - MARGIN - footer + (2 * number + 1) * FOOTER // 2
        pen.text((MARGIN, height_of_line), line, fill=INK, font=font, anchor="lm")
    return canvas
