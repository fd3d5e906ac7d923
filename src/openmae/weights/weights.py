"""Weights: tensors, and the network that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from openmae.core.network import Network
from openmae.recipes import Recipe

ENCODER_PREFIX, DECODER_PREFIX, HEAD_PREFIX = "encoder.", "decoder.", "head."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights from a file, whoever wrote it.

    Args:
        tensors: by timm's names for an encoder; below `encoder.` and `decoder.` for an autoencoder. A classifier is
            `head.`; a linear probe is `head.0.` (batch normalisation) and `head.1.`.
        network: what they are for.
        file: where they come from.
        recipe: how they were trained, where that is known.
        layout: whose names the file has, for messages.
        assumed: what the file does not say and was assumed, in sentences for the user.
        notes: the meaning of the outputs of a classifier, where that is known: its "task", and the names of its
            "classes" or "labels", or the "mean" and "std" of its numbers.
    """

    tensors: Mapping[str, Tensor]
    network: Network
    file: Path
    recipe: Recipe | None = None
    layout: str = "OpenMAE"
    assumed: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes or labels that a classifier gives scores for; () where they are not known."""
        return tuple(self.notes.get("classes", self.notes.get("labels", ())))

    @property
    def has_decoder(self) -> bool:
        """Whether they can reconstruct."""
        return any(name.startswith(DECODER_PREFIX) for name in self.tensors)

    @property
    def has_head(self) -> bool:
        """Whether a classifier or a linear probe is on top of the encoder."""
        return any(name.startswith(HEAD_PREFIX) for name in self.tensors)

    def encoder(self) -> dict[str, Tensor]:
        """The encoder's tensors under timm's names, whether or not the file also holds a decoder."""
        inside = {
            name.removeprefix(ENCODER_PREFIX): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(ENCODER_PREFIX)
        }
        return inside or dict(self.tensors)

    def without_decoder(self) -> "Weights":
        """The encoder alone."""
        return replace(self, tensors=self.encoder(), network=replace(self.network, decoder=None))

    def without_head(self) -> "Weights":
        """Without the classifier or linear probe; the norm in front of it stays."""
        kept = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(HEAD_PREFIX)}
        return replace(self, tensors=kept)
