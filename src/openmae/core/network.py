"""A network as plain values (architecture, geometry, channels, normalisation), apart from how it was trained."""

from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from typing import Any, Literal, NamedTuple, get_args

import torch
from timm.models.vision_transformer import VisionTransformer

from openmae.core.decoder import DecoderConfig
from openmae.core.encoder import create_encoder, encoder_geometry
from openmae.core.geometry import Geometry
from openmae.core.model import MaskedAutoencoder
from openmae.core.positions import AxisOrder
from openmae.errors import UserError

PixelType = Literal["uint8", "uint16", "float32"]
Interpolation = Literal["bicubic", "bilinear"]


class Architecture(NamedTuple):
    """The values that two networks must share so that one can take the encoder weights of the other.

    `heads` is None for a backbone whose attention has no heads to count.
    """

    backbone: str
    patch_size: int
    width: int
    depth: int
    heads: int | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network: architecture, image geometry, channels, and how images are brought into the form that it expects.

    Raises:
        UserError: when a value is impossible by itself or beside the others. Only building the network shows whether
            timm knows the backbone and whether the patch size divides the image size.
    """

    backbone: str
    """A timm VisionTransformer, by name."""
    image_size: tuple[int, int]
    """Height and width of the images, in pixels."""
    patch_size: int | None = None
    """Side of a patch in pixels; None: as the backbone defines it, like width, depth and heads."""
    channels: int = 3
    """C: 3 for colour, 1 for grey, else the number of bands."""
    width: int | None = None
    """D, the width of the encoder's tokens."""
    depth: int | None = None
    """Number of encoder blocks."""
    heads: int | None = None
    """Attention heads of each encoder block."""

    pixel_type: PixelType = "uint8"
    """The type of the pixels before they are normalised."""
    mean: tuple[float, ...]
    """Mean of each channel, with integer pixels scaled to 0 … 1; () while it has not been measured."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise."""
    nodata: float | Literal["auto", "none"] = "auto"
    """The value of pixels that hold no data, which get the mean of their channel; auto: as a GeoTIFF names it."""
    pages: Literal["auto", "channels", "images", "first"] = "auto"
    """What the pages of a TIFF are."""
    interpolation: Interpolation = "bicubic"
    """How images are resized."""
    eval_resize: int
    """At evaluation the short side is resized to this many pixels, and then the centre is cropped."""
    exact_decoding: bool = False
    """Whether images are decoded and resized exactly as Pillow does it, rather than faster."""

    decoder: DecoderConfig | None = None
    """The decoder of an autoencoder; None for an encoder alone."""
    normalise_target: bool = True
    """Whether an autoencoder predicts pixels normalised per patch."""
    axis_order: AxisOrder = "column-first"
    """Which axis the first position channels of an autoencoder encode; see `sincos_positions`."""

    def __post_init__(self) -> None:
        sides = {"image_size": min(self.image_size), "patch_size": self.patch_size}
        counts = {"channels": self.channels, "width": self.width, "depth": self.depth, "heads": self.heads}
        for name, value in {**sides, **counts}.items():
            if value is not None and value < 1:
                raise UserError(f"the {name} of a network is {value}; it must be at least 1")
        for name, choices in (("pixel_type", PixelType), ("interpolation", Interpolation), ("axis_order", AxisOrder)):
            if getattr(self, name) not in get_args(choices):
                raise UserError(f"{name} is {getattr(self, name)!r}; use {' or '.join(get_args(choices))}")
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise UserError(f"an encoder of width {self.width} cannot be split among {self.heads} heads; change either")
        if (len(self.mean), len(self.std)) not in ((0, 0), (self.channels, self.channels)):
            raise UserError(
                f"mean has {len(self.mean)} values and std {len(self.std)} for {self.channels} channels; give one of "
                "each per channel"
            )
        if not all(map(isfinite, self.mean)) or not all(0 < value < inf for value in self.std):
            raise UserError(f"mean is {self.mean} and std {self.std}; give finite numbers, and for std positive ones")
        if self.eval_resize < min(self.image_size):
            raise UserError(
                f"eval_resize {self.eval_resize} is smaller than the short side of the images; make it at least "
                f"{min(self.image_size)}"
            )

    @cached_property
    def geometry(self) -> Geometry:
        """Image size, patch size and grid, each (vertical, horizontal).

        Raises:
            UserError: see `create_encoder`.
        """
        return encoder_geometry(self._encoder_without_memory())

    @cached_property
    def architecture(self) -> Architecture:
        """The architecture, with the backbone's own values for what is None here.

        Raises:
            UserError: see `create_encoder`.
        """
        vit = self._encoder_without_memory()
        return Architecture(
            backbone=self.backbone,
            patch_size=vit.patch_embed.patch_size[0],
            width=vit.embed_dim,
            depth=len(vit.blocks),
            heads=getattr(vit.blocks[0].attn, "num_heads", None),
        )

    def build_encoder(self, **timm_options: Any) -> VisionTransformer:
        """The encoder, initialised by timm from torch's generator; without a classifier unless `num_classes` is given.

        Args:
            timm_options: go to `timm.create_model` (num_classes, global_pool, drop_path_rate, …).

        Raises:
            UserError: see `create_encoder`.
        """
        return create_encoder(
            self.backbone,
            image_size=self.image_size,
            patch_size=self.patch_size,
            channels=self.channels,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            **timm_options,
        )

    def build_autoencoder(self, *, mlp_bias_std: float = 0.0) -> MaskedAutoencoder:
        """The encoder with its decoder, initialised from torch's generator as the reference does it.

        Args:
            mlp_bias_std: standard deviation of the initial MLP biases; see `initialise`.

        Raises:
            UserError: when the network has no decoder; else see `create_encoder`.
        """
        if self.decoder is None:
            raise UserError(
                "this network is an encoder without a decoder, so it cannot reconstruct; give one that has a decoder"
            )
        return MaskedAutoencoder(
            self.build_encoder(),
            decoder=self.decoder,
            normalise_target=self.normalise_target,
            axis_order=self.axis_order,
            mlp_bias_std=mlp_bias_std,
        )

    def _encoder_without_memory(self) -> VisionTransformer:
        with torch.device("meta"):  # shapes only: the values may describe a network that no memory can store
            return self.build_encoder()
