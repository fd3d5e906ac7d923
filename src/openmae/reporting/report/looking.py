"""What a pre-trained network makes of images: its features, its reconstructions, and all that is drawn from them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openmae.core.encoder import encode_images
from openmae.evaluation.features import pool_tokens
from openmae.reporting.report.features import Look, looks_of
from openmae.reporting.report.gallery import Gallery, errors_of, gallery
from openmae.reporting.report.map import Map, map_of
from openmae.reporting.report.neighbours import Query, queries_of
from openmae.reporting.report.sample import Sample
from openmae.weights.building import LoadedAutoencoder

BATCH = 32
LOOKS = 6
PATIENCE = 60.0
"""Seconds that features and errors may take together: a large network on a small machine shows fewer images."""


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
    features = _encoded(lambda part: _mean_tokens(loaded, sample, part), len(sample), patience / 2)
    known = len(features)
    errors = _encoded(lambda part: errors_of(loaded, sample, part, seed=seed), known, patience / 2)
    queries, same_class = queries_of(sample, features)
    return Looks(
        images=known,
        gallery=gallery(loaded, sample, errors, seed=seed) if len(errors) else None,
        looks=looks_of(loaded, sample, np.arange(min(LOOKS, known))),
        map=map_of(sample, features),
        queries=queries,
        same_class=same_class,
    )


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
