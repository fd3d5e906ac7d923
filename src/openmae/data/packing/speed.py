"""How fast a packed set is decoded, beside its source."""

import statistics
import time
from collections.abc import Mapping

import torch

from openmae.data.batches import SeededImages
from openmae.data.decoding import AS_USUAL, BadImage, PixelFormat, Reading, open_image
from openmae.data.sources import Source
from openmae.data.statistics import sample
from openmae.data.transforms import TrainTransform

SPEED_SAMPLE, ROUNDS = 64, 3
CROP = 224


def decoding_speeds(
    sources: Mapping[str, Source], wanted: PixelFormat, reading: Reading = AS_USUAL
) -> dict[str, float]:
    """Images per second of decoding and a random resized crop, in one thread; the sources take turns.

    The crop is 224 pixels large, or as large as the images where they are smaller.
    """
    side = min([CROP, *(_short_side(source, reading) for source in sources.values())])
    transform = TrainTransform(size=(side, side), crop_scale=(0.2, 1.0))
    sets = {
        name: SeededImages(source=source, transform=transform, format=wanted, reading=reading, replace_bad=False)
        for name, source in sources.items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates: dict[str, list[float]] = {name: [] for name in sets}
        for epoch in range(ROUNDS + 1):
            for name, images in sets.items():
                started = time.perf_counter()
                read = sum(bool(images[epoch, index].views) for index in sample(len(images), SPEED_SAMPLE))
                if epoch:  # the first round warms up
                    rates[name].append(read / (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in rates.items()}


def _short_side(source: Source, reading: Reading) -> int:
    sides = [CROP]
    for index in sample(len(source), 8):
        try:
            image = open_image(source.read(index), reading)
        except (BadImage, OSError):
            continue
        sides.append(min(image.height, image.width))
    return min(sides)
