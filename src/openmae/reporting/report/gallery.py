"""Reconstructions of images: those with the smallest and the largest error, and some at random."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmae.core.masking import Mask
from openmae.data.randomness import Stream, random_stream
from openmae.evaluation.reconstructing import visible_bands
from openmae.evaluation.views import fixed_masks, image_errors, patch_errors
from openmae.reporting.pictures import predict_pixels, reconstruction_panels
from openmae.reporting.report.pictures import Picture
from openmae.reporting.report.sample import Sample
from openmae.weights.building import LoadedAutoencoder

MOST = 6
"""Images of each row: best, worst, random."""


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """An image, what the network saw of it, and what it made of that."""

    name: str
    label: str
    error: float
    original: Picture
    masked: Picture
    reconstruction: Picture


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The images with the smallest and the largest error among `images`, and some at random; `median` is the error."""

    images: int
    median: float
    best: list[Reconstructed]
    worst: list[Reconstructed]
    random: list[Reconstructed]


def gallery(loaded: LoadedAutoencoder, sample: Sample, errors: NDArray[np.float32], *, seed: int) -> Gallery:
    """The gallery of the images that have these errors."""
    order = np.argsort(errors, kind="stable")
    few = min(MOST, len(errors))
    middle = order[few:-few] if len(order) > 3 * few else order
    drawn = random_stream(seed, Stream.SUBSET, index=1).permutation(middle)[:few]

    def rows(places: NDArray[np.int64]) -> list[Reconstructed]:
        return [
            Reconstructed(
                name=sample.names[place],
                label=sample.label(place),
                error=float(errors[place]),
                original=original,
                masked=masked,
                reconstruction=reconstruction,
            )
            for place, (original, masked, reconstruction) in zip(
                map(int, places), reconstructions(loaded, sample, places, seed=seed), strict=True
            )
        ]

    return Gallery(
        images=len(errors),
        median=float(np.median(errors)),
        best=rows(order[:few]),
        worst=rows(order[::-1][:few].copy()),
        random=rows(drawn),
    )


def errors_of(loaded: LoadedAutoencoder, sample: Sample, part: slice, *, seed: int) -> NDArray[np.float32]:
    """The loss of each image, [B]: the mean squared error over its own hidden patches, as in training."""
    images = sample.normalised(part)
    mask = _masks(loaded, range(part.start, part.start + len(images)), seed=seed)
    errors: NDArray[np.float32] = image_errors(patch_errors(loaded.model, images, mask), mask).numpy()
    return errors


def reconstructions(
    loaded: LoadedAutoencoder, sample: Sample, places: NDArray[np.int64], *, seed: int
) -> Iterator[tuple[Picture, Picture, Picture]]:
    """Original, masked and reconstruction of some images; the i-th of the sample has the i-th mask of the seed."""
    mask = _masks(loaded, places.tolist(), seed=seed)
    pixels = sample.pixels[places]
    predicted = predict_pixels(loaded.model, loaded.network, pixels, mask)
    for original, masked, _, pasted in reconstruction_panels(
        loaded.model, *visible_bands(pixels, predicted), mask.as_grid()
    ):
        yield Picture(original), Picture(masked), Picture(pasted)


def _masks(loaded: LoadedAutoencoder, places: Sequence[int], *, seed: int) -> Mask:
    return fixed_masks(loaded.model.geometry, places, loaded.mask_ratio, seed=seed)
