"""Encoded images of a data set, among which the nearest to another one are found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmae.core.network import Network
from openmae.data.batches import SeededImages
from openmae.data.decoding import Reading
from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import Source, classes_if_any
from openmae.data.sources.data_set import Subset
from openmae.data.targets import Targets
from openmae.evaluation.features import extract_features
from openmae.evaluation.forward import evaluation_images
from openmae.reporter import say
from openmae.weights.building import LoadedAutoencoder


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Images and their features: the mean patch token [N, D] of those at the `indices` [N] of `source`."""

    source: Source
    indices: NDArray[np.int64]
    features: NDArray[np.float32]
    classes: Targets

    def __len__(self) -> int:
        return len(self.indices)

    def images(self, network: Network, reading: Reading) -> SeededImages:
        """The images of the source as the network takes them."""
        return evaluation_images(network, self.source, reading=reading)

    def name(self, place: int) -> str:
        return self.source.name(int(self.indices[place]))

    def label(self, place: int) -> str:
        """The name of the image's class; "" when it has none."""
        index = int(self.indices[place])
        return self.classes.names[int(self.classes.values[index])] if self.classes.known[index] else ""


def encode_bank(loaded: LoadedAutoencoder, source: Source, reading: Reading, *, images: int, seed: int) -> Bank:
    """Encode some images of a source, chosen by the seed, in the order of the source.

    Raises:
        UserError: when none of them can be read.
    """
    classes = classes_if_any(source)
    chosen = np.sort(random_stream(seed, Stream.SUBSET).permutation(len(source))[:images]).astype(np.int64)
    say(f"encoding {len(chosen):,} of {len(source):,} images, to find the nearest among them")
    features = extract_features(loaded.model.encoder, loaded.network, Subset(source, chosen), reading=reading)
    if features.bad:
        first = features.bad[0]
        say(f"{len(features.bad)} images could not be read and are left out, e.g. {first.name}: {first.reason}")
    return Bank(source=source, indices=chosen[features.indices], features=features.mean, classes=classes)
