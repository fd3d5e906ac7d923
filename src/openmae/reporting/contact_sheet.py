"""A contact sheet: a sample of a data set as small pictures with their names, unreadable ones marked."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from openmae.data.decoding import AS_USUAL, SHRINKS, BadImage, PixelFormat, Pixels, Reading, open_image
from openmae.data.sources import Source
from openmae.data.sources.own_output import sign_png
from openmae.data.statistics import sample
from openmae.evaluation.reconstructing import visible_bands
from openmae.reporter import plain
from openmae.reporting.pictures import INK, MARGIN, PAPER

COLUMNS, ROWS = 8, 6
TILE, GAP, CAPTION = 150, 8, 18
UNREADABLE, MARK = (238, 226, 226), (170, 40, 40)


def write_contact_sheet(source: Source, out: Path, reading: Reading = AS_USUAL) -> Path:
    """Draw a sample spread evenly over all images to a PNG, each whole and upright in a square tile.

    Deep pixels and many bands are stretched for the screen as in the pictures of reconstructions.
    """
    chosen = sample(len(source), COLUMNS * ROWS)
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    size = (2 * MARGIN + columns * (TILE + GAP) - GAP, 2 * MARGIN + rows * (TILE + CAPTION + GAP) - GAP)
    canvas = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for number, index in enumerate(chosen):
        left = MARGIN + number % columns * (TILE + GAP)
        top = MARGIN + number // columns * (TILE + CAPTION + GAP)
        try:
            tile = _tile(source.read(index), reading)
            canvas.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        except (BadImage, OSError):
            pen.rectangle((left, top, left + TILE, top + TILE), fill=UNREADABLE)
            pen.text((left + TILE // 2, top + TILE // 2), "cannot be read", fill=MARK, font=font, anchor="mm")
        caption = _fitting(plain(source.name(index)), font)
        pen.text((left + TILE // 2, top + TILE + CAPTION // 2), caption, fill=INK, font=font, anchor="mm")
    canvas.save(out, format="PNG", pnginfo=sign_png())
    return out


def _tile(data: bytes, reading: Reading) -> Image.Image:
    opened = open_image(data, reading)
    shrink = next(factor for factor in SHRINKS if factor == 1 or max(opened.height, opened.width) >= factor * TILE)
    channels = opened.colours
    pixels = opened.decode(PixelFormat(channels, opened.stored.kind), shrink=shrink)
    factor = TILE / max(pixels.shape[:2])
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    scaling = Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC  # so that small pixels stay visible
    return Image.fromarray(_shown(pixels)).convert("RGB").resize((width, height), scaling)


def _shown(pixels: Pixels) -> Pixels:
    """Convert [H, W, C] of any type to [H, W] or [H, W, 3] uint8."""
    step = max(1, max(pixels.shape[:2]) // (4 * TILE))  # percentiles of a large image do not need every pixel
    small = np.array(pixels[::step, ::step], order="C")  # a copy, which torch may write to
    if small.dtype == np.uint16:
        small = small.astype(np.float32)
    bands = torch.from_numpy(small).permute(2, 0, 1).unsqueeze(0)
    shown, _ = visible_bands(bands, bands)
    array = shown[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


def _fitting(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The name, without its beginning when it is too long for a tile."""
    if font.getlength(name) <= TILE:
        return name
    kept = next(start for start in range(len(name)) if font.getlength("…" + name[start:]) <= TILE)
    return "…" + name[kept:]
