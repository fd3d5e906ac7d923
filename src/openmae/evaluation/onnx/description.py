"""The metadata of an ONNX file: everything that `embed` and `predict` must know beside the graph."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from openmae.core.decoder import DecoderConfig
from openmae.core.network import Network
from openmae.errors import UserError, one_line
from openmae.recipes.conversion import convert
from openmae.weights.formats.own import TASK_KEY
from openmae.weights.results import OnnxPart, OnnxPixels

NETWORK_KEY, PART_KEY, PIXELS_KEY = "openmae.network", "openmae.part", "openmae.pixels"
WEIGHTS_KEY, VERSION_KEY, GRAPH_KEY = "openmae.weights", "openmae.version", "openmae.graph"
MOST_VALUES = 2**26  # of one image; a file for more is not built from a real network
MOST_CHARACTERS = 2**14  # of the network's description; ours have a thousand
MOST_ENLARGED = 4  # times the short side, before the crop; as for every other layout


@dataclass(frozen=True, kw_only=True)
class Description:
    """A graph as its metadata describe it.

    Args:
        network: the network that was exported.
        part: the part of it.
        pixels: the form of the images that the graph takes.
        notes: the meaning of a classifier's outputs, as in `Weights`.
        weights: the digest of the weights.
    """

    network: Network
    part: OnnxPart
    pixels: OnnxPixels
    notes: Mapping[str, Any]
    weights: str

    @property
    def taken(self) -> Network:
        """The network as a caller of the graph sees it: a graph that normalises takes pixels in 0 … 1 as they are."""
        if self.pixels == "normalised":
            return self.network
        channels = self.network.channels
        return replace(self.network, mean=(0.0,) * channels, std=(1.0,) * channels)

    def metadata(self, version: str) -> dict[str, str]:
        """As text under keys; `from_metadata` reads it back."""
        return {
            NETWORK_KEY: yaml.safe_dump(_plain(asdict(self.network)), sort_keys=False, allow_unicode=True),
            PART_KEY: self.part,
            PIXELS_KEY: self.pixels,
            TASK_KEY: json.dumps(dict(self.notes)),
            WEIGHTS_KEY: self.weights,
            VERSION_KEY: version,
        }


def from_metadata(metadata: Mapping[str, str], file: Path) -> Description:
    """The description of a graph.

    Raises:
        UserError: when the file has none, or one that cannot be right.
    """
    if NETWORK_KEY not in metadata:
        raise UserError(
            f"{file} does not say how it wants its images; give a file of `openmae convert --to onnx`, which does"
        )
    try:
        if len(metadata[NETWORK_KEY]) > MOST_CHARACTERS:
            raise ValueError(f"{len(metadata[NETWORK_KEY]):,} characters")
        values, notes = yaml.safe_load(metadata[NETWORK_KEY]), json.loads(metadata.get(TASK_KEY, "{}"))
        if not isinstance(values, dict) or not isinstance(notes, dict):
            raise ValueError("no mapping")
        return Description(
            network=_network(values),
            part=convert("its part", metadata.get(PART_KEY), Literal["encoder", "classifier", "autoencoder"]),
            pixels=convert("the form of its pixels", metadata.get(PIXELS_KEY), Literal["normalised", "unit", "uint8"]),
            notes=notes,
            weights=metadata.get(WEIGHTS_KEY, ""),
        )
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # UserError is a ValueError
        problem = one_line(error).partition("; ")[0][:200]
        raise UserError(f"{file} describes its network in no usable way ({problem}); write it anew") from error


def _network(values: dict[str, Any]) -> Network:
    types = get_type_hints(Network)
    known = {field.name for field in fields(Network)}
    if unknown := sorted(str(name)[:40] for name in values if name not in known):
        raise ValueError(f"nothing is known of {unknown[0]!r}")
    decoder = values.pop("decoder", None)
    if decoder is not None:
        kinds = get_type_hints(DecoderConfig)
        decoder = DecoderConfig(
            **{name: convert(f"its decoder's {name}", decoder[name], kinds[name]) for name in kinds}
        )
    network = Network(
        **{name: convert(f"its {name}", value, types[name]) for name, value in values.items()}, decoder=decoder
    )
    if prod(network.image_size) * network.channels > MOST_VALUES:
        raise ValueError(f"images of {network.channels}x{network.image_size[0]}x{network.image_size[1]} are too large")
    if network.eval_resize > MOST_ENLARGED * min(network.image_size):
        raise ValueError(f"it resizes images to {network.eval_resize} before the crop")
    return network


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value
