"""What the encoder sees in images: the features of their patches as colours, and the attention of its last block."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from openmae.core.encoder import encode_images
from openmae.errors import UserError
from openmae.evaluation.views import attention_maps, patch_colours
from openmae.reporting.report.pictures import Picture, enlarged, heat
from openmae.reporting.report.sample import Sample
from openmae.weights.building import LoadedAutoencoder

HEADS = 6
AVERAGED = 64
"""So many images say what all of them have at a place."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """An image, the colours of its patches, and where the last block looks: all heads, and each."""

    name: str
    label: str
    original: Picture
    colours: Picture
    attention: Picture | None
    heads: list[Picture] = field(default_factory=list)


def looks_of(loaded: LoadedAutoencoder, sample: Sample, places: NDArray[np.int64]) -> list[Look]:
    """The images at these places of the sample, as the encoder sees them."""
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
