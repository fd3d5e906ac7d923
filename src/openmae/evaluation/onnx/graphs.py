"""The parts of a network as modules whose inputs and outputs are those of an ONNX graph."""

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.encoder import encode_images, encoder_geometry
from openmae.core.masking import Mask
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.evaluation.features import pool_tokens
from openmae.weights.results import OnnxPixels

WHITE = 255  # of 8-bit pixels


class Normalise(nn.Module):
    """Pixels as a graph receives them, [B, C, H, W], to those that the network computes with."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Network, pixels: OnnxPixels) -> None:
        super().__init__()
        largest = WHITE if pixels == "uint8" else 1
        shift = [-mean / std for mean, std in zip(network.mean, network.std, strict=True)]
        scale = [1 / (largest * std) for std in network.std]
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.to(self.scale.dtype) * self.scale + self.shift


class Graph(nn.Module):
    """A module to export, with the names of its inputs and outputs in their order."""

    inputs: Sequence[str] = ("images",)
    outputs: Sequence[str]

    def __init__(self, network: Network, pixels: OnnxPixels) -> None:
        super().__init__()
        self.prepare: nn.Module = nn.Identity() if pixels == "normalised" else Normalise(network, pixels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.compute(self.prepare(images))

    def compute(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The outputs for images that are normalised."""
        raise NotImplementedError


class EncoderGraph(Graph):
    """Images to `cls` and `mean` [B, D], the features of `openmae embed`, and the map `patches` [B, D, rows, columns].

    Without a class token there is no `cls`.
    """

    def __init__(self, vit: VisionTransformer, network: Network, pixels: OnnxPixels) -> None:
        super().__init__(network, pixels)
        self.encoder = vit
        self.grid = encoder_geometry(vit).grid
        self.outputs = ("mean", "patches") if vit.cls_token is None else ("cls", "mean", "patches")

    def compute(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        assert not others, "an encoder has one input"
        tokens_BTD = encode_images(self.encoder, images)
        pooled = pool_tokens(self.encoder, tokens_BTD)
        patches_BLD = tokens_BTD[:, self.encoder.num_prefix_tokens :]
        map_BDHW = patches_BLD.transpose(1, 2).reshape(images.shape[0], -1, *self.grid)
        return (pooled.mean, map_BDHW) if pooled.cls is None else (pooled.cls, pooled.mean, map_BDHW)


class ClassifierGraph(Graph):
    """Images to the outputs of a head [B, O].

    `logits` are before the softmax or, for several labels, before the sigmoid. `standardised` is a number in units of
    the training numbers' standard deviation, from their mean; the metadata have both.
    """

    def __init__(self, model: nn.Module, network: Network, pixels: OnnxPixels, *, number: bool) -> None:
        super().__init__(network, pixels)
        self.model = model
        self.outputs = ("standardised",) if number else ("logits",)

    def compute(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        assert not others, "a classifier has one input"
        return (self.model(images),)


class AutoencoderGraph(Graph):
    """Images and a mask to `prediction` [B, L, P] in the grid's order.

    The mask is the indices of the visible patches, `kept` [B, K], and of the hidden ones, `dropped` [B, L - K]. In
    each patch the values are in (row, column, channel) order, normalised per patch if the network predicts those.
    """

    inputs = ("images", "kept", "dropped")
    outputs = ("prediction",)

    def __init__(self, model: MaskedAutoencoder, network: Network, pixels: OnnxPixels) -> None:
        super().__init__(network, pixels)
        self.model = model

    def forward(self, images: Tensor, kept: Tensor, dropped: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.compute(self.prepare(images), kept, dropped)

    def compute(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        kept, dropped = others
        mask = Mask(kept, dropped)
        return (self.model.decoder(self.model.encode(images, mask), mask),)
