"""What a pre-trained network makes of images: reconstructions by error, colours of patches, attention, neighbours."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmae.core.encoder import encode_images
from openmae.core.masking import Mask
from openmae.data.randomness import Stream, random_stream
from openmae.errors import UserError
from openmae.evaluation.features import pool_tokens
from openmae.evaluation.reconstructing import visible_bands
from openmae.evaluation.views import (
    attention_maps,
    fixed_masks,
    image_errors,
    neighbours,
    patch_colours,
    patch_errors,
    projection,
)
from openmae.evaluation.views.projection import Projection
from openmae.reporting.pictures import predict_pixels, reconstruction_panels
from openmae.reporting.report.pictures import Picture, enlarged, heat
from openmae.reporting.report.sample import Sample
from openmae.weights.building import LoadedAutoencoder

BATCH = 32
GALLERY = 6
"""Images of each row: best, worst, random."""
LOOKS = 6
HEADS = 6
AVERAGED = 64
"""So many images say what all of them have at a place."""
QUERIES, NEAREST = 6, 6
PATIENCE = 60.0
"""Seconds that the encoding of images may take: a large network on a small machine shows fewer of them."""
THUMBNAIL = 32


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


@dataclass(frozen=True, kw_only=True)
class Look:
    """An image, the colours of its patches, and where the last block looks: all heads, and each."""

    name: str
    label: str
    original: Picture
    colours: Picture
    attention: Picture | None
    heads: list[Picture] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An image beside a query, how similar it is (cosine), and whether it is of the query's class, where known."""

    name: str
    label: str
    picture: Picture
    similarity: float
    same: bool | None


@dataclass(frozen=True, kw_only=True)
class Query:
    """An image, and those nearest to it."""

    name: str
    label: str
    picture: Picture
    nearest: list[Found]


@dataclass(frozen=True, kw_only=True)
class Map:
    """The features in two dimensions: a row for each image with x, y, class, name and image (a data URI)."""

    method: str
    classes: list[str]
    rows: list[dict[str, str | float]]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Everything that was found in `images` of the sample; less than was asked for when the time ran out."""

    images: int
    gallery: Gallery | None
    looks: list[Look]
    map: Map | None
    queries: list[Query]
    same_class: float | None
    """Share of the nearest images that are of the query's class, over all of the sample; None without labels."""


@torch.inference_mode()
def look(loaded: LoadedAutoencoder, sample: Sample, *, seed: int, patience: float = PATIENCE) -> Looks:
    """Run the network over the sample: its encoder without a mask for features, the whole of it for reconstructions."""
    loaded = loaded._replace(network=sample.network)
    features = _encoded(lambda part: _mean_tokens(loaded, sample, part), len(sample), patience)
    known = len(features)
    errors = _encoded(lambda part: errors_of(loaded, sample, part, seed=seed), known, patience)
    chosen = np.arange(min(LOOKS, known))
    queries, same_class = _queries(sample, features)
    return Looks(
        images=known,
        gallery=_gallery(loaded, sample, errors, seed=seed) if len(errors) else None,
        looks=_looks(loaded, sample, chosen),
        map=_map(sample, features),
        queries=queries,
        same_class=same_class,
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


def _encoded(rows_of: Callable[[slice], NDArray[np.float32]], count: int, patience: float) -> NDArray[np.float32]:
    """The rows of the images, a batch at a time, until the time is over."""
    started, found = time.monotonic(), []
    for start in range(0, count, BATCH):
        found.append(rows_of(slice(start, min(start + BATCH, count))))
        if time.monotonic() - started > patience:
            break
    return np.concatenate(found) if found else np.empty(0, dtype=np.float32)


def _mean_tokens(loaded: LoadedAutoencoder, sample: Sample, part: slice) -> NDArray[np.float32]:
    vit = loaded.model.encoder
    features: NDArray[np.float32] = pool_tokens(vit, encode_images(vit, sample.normalised(part))).mean.float().numpy()
    return features


def _gallery(loaded: LoadedAutoencoder, sample: Sample, errors: NDArray[np.float32], *, seed: int) -> Gallery:
    order = np.argsort(errors, kind="stable")
    few = min(GALLERY, len(errors))
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


def _looks(loaded: LoadedAutoencoder, sample: Sample, places: NDArray[np.int64]) -> list[Look]:
    vit, geometry = loaded.model.encoder, loaded.model.geometry
    images = sample.normalised(places)
    rows, columns = geometry.grid
    tokens_NLD: Tensor = encode_images(vit, sample.normalised(slice(0, AVERAGED)))[:, vit.num_prefix_tokens :].float()
    # What all images have at a place tells where it is, not what is there, and would give most of the colour.
    content_NLD = tokens_NLD - tokens_NLD.mean(dim=0)
    colours = patch_colours(content_NLD[places].numpy()).reshape(len(places), rows, columns, 3)
    try:
        maps = attention_maps(vit, images).numpy()  # [B, heads, rows, columns]
    except UserError:  # attention of a kind of its own
        maps = np.empty((len(places), 0, rows, columns), dtype=np.float32)
    height, width = geometry.size

    def shown(values: NDArray[np.float32]) -> Picture:
        return Picture(enlarged(heat(values), height, width))

    return [
        Look(
            name=sample.names[place],
            label=sample.label(place),
            original=Picture(sample.visible(place)),
            colours=Picture(enlarged((255 * colour).round().astype(np.uint8), height, width)),
            attention=shown(attention.mean(axis=0)) if len(attention) else None,
            heads=[shown(head) for head in attention[:HEADS]],
        )
        for place, colour, attention in zip(map(int, places), colours, maps, strict=True)
    ]


def _queries(sample: Sample, features: NDArray[np.float32]) -> tuple[list[Query], float | None]:
    """Some images with those nearest to them, and how often these are of the same class."""
    if len(features) < 3:
        return [], None
    wanted = min(NEAREST, len(features) - 1)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    nearest = neighbours(features, features, wanted + 1)
    others = [[int(i) for i in row if i != place][:wanted] for place, row in enumerate(nearest)]
    labels = sample.labels[: len(features)]
    known = [labels[row] == labels[place] for place, row in enumerate(others) if labels[place] >= 0]
    queries = [
        Query(
            name=sample.names[place],
            label=sample.label(place),
            picture=Picture(sample.visible(place), longest=96),
            nearest=[
                Found(
                    name=sample.names[other],
                    label=sample.label(other),
                    picture=Picture(sample.visible(other), longest=96),
                    similarity=float(unit[place] @ unit[other]),
                    same=bool(labels[place] == labels[other]) if labels[place] >= 0 and labels[other] >= 0 else None,
                )
                for other in others[place]
            ],
        )
        for place in range(min(QUERIES, len(features)))
    ]
    return queries, float(np.mean(np.concatenate(known))) if known else None


def _map(sample: Sample, features: NDArray[np.float32]) -> Map | None:
    if len(features) < 5:
        return None
    method: Projection = "tsne" if len(features) >= 50 else "pca"
    points = projection(features, method)
    rows: list[dict[str, str | float]] = [
        {
            "x": round(float(x), 3),
            "y": round(float(y), 3),
            "class": sample.label(place) or "no label",
            "name": sample.names[place],
            "image": Picture(sample.visible(place), longest=THUMBNAIL).uri,
        }
        for place, (x, y) in enumerate(points)
    ]
    return Map(method="t-SNE" if method == "tsne" else "PCA", classes=list(sample.classes), rows=rows)
