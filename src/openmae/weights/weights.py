"""Weights: tensors, and the network that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from openmae.core.network import Network
from openmae.recipes import Recipe

ENCODER_PREFIX, DECODER_PREFIX = "encoder.", "decoder."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights from a file of any layout.

    Args:
        tensors: by timm's names for an encoder; below `encoder.` and `decoder.` for an autoencoder.
        network: the one that they are for.
        file: where they come from.
        recipe: that trained them, if it is known.
    """

    tensors: Mapping[str, Tensor]
    network: Network
    file: Path
    recipe: Recipe | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether they can reconstruct."""
        return any(name.startswith(DECODER_PREFIX) for name in self.tensors)

    def encoder(self) -> dict[str, Tensor]:
        """The encoder's tensors under timm's names, whether or not the file also holds a decoder."""
        inside = {
            name.removeprefix(ENCODER_PREFIX): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(ENCODER_PREFIX)
        }
        return inside or dict(self.tensors)
