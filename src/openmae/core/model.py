"""The masked autoencoder: images and a mask in; loss, prediction and mask out."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.decoder import Decoder, DecoderConfig
from openmae.core.encoder import (
    create_encoder,
    encode,
    encoder_geometry,
    fix_positions,
    initialise,
    require_plain_vit,
)
from openmae.core.masking import Mask
from openmae.core.patches import normalise_patches, patchify, take_patches
from openmae.core.positions import AxisOrder
from openmae.errors import UserError


class MAEOutput(NamedTuple):
    """What one forward pass gives: the scalar `loss`, `prediction` [B, L, P] in grid order, and the `mask` used."""

    loss: Tensor
    prediction: Tensor
    mask: Mask


class MaskedAutoencoder(nn.Module):
    """A Vision Transformer that learns by predicting hidden patches (He et al., arXiv 2111.06377, section 3).

    Args:
        encoder: a timm model name, or a timm VisionTransformer (class token, registers, or neither). The module takes
            it over: weights are initialised anew and its positions become the fixed sine-cosine table.
        decoder: size of the decoder.
        normalise_target: predict pixels normalised per patch (the paper's best), or as they are.
        axis_order: which axis the first half of the position channels encodes; see `sincos_positions`.
        mlp_bias_std: see `initialise`.
        encoder_options: when `encoder` is a name: image_size, patch_size, channels, width, … of `create_encoder`.

    Shapes: images [B, C, H, W] float, already normalised by the data set's statistics; L = H/patch * W/patch.

    >>> import torch
    >>> from openmae.core.masking import random_mask
    >>> model = MaskedAutoencoder("vit_tiny_patch16_224", decoder=DecoderConfig(width=64, depth=1, heads=4))
    >>> out = model(torch.zeros(2, 3, 224, 224), random_mask(batch=2, patches=196, kept=49))
    >>> out.prediction.shape
    torch.Size([2, 196, 768])
    """

    def __init__(
        self,
        encoder: str | VisionTransformer,
        *,
        decoder: DecoderConfig | None = None,
        normalise_target: bool = True,
        axis_order: AxisOrder = "column-first",
        mlp_bias_std: float = 0.0,
        **encoder_options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, str) and encoder_options:
            raise UserError(f"{', '.join(encoder_options)}: an encoder given as a module is already built; drop these")
        vit = create_encoder(encoder, **encoder_options) if isinstance(encoder, str) else require_plain_vit(encoder)
        self.encoder = vit
        self.normalise_target = normalise_target
        self.image_size, self.patch_size, self.grid = encoder_geometry(vit)
        self.channels = vit.patch_embed.proj.in_channels
        self.decoder = Decoder(
            decoder or DecoderConfig(),
            encoder_width=vit.embed_dim,
            prefix_tokens=vit.num_prefix_tokens,
            grid=self.grid,
            patch_values=self.patch_size[0] * self.patch_size[1] * self.channels,
            axis_order=axis_order,
        )
        initialise(self, mlp_bias_std=mlp_bias_std)
        fix_positions(vit, axis_order)
        for unused in (vit.attn_pool, vit.fc_norm, vit.head):  # a classifier's; the loss does not reach them
            if unused is not None:
                unused.requires_grad_(False)  # DistributedDataParallel refuses parameters that get no gradient

    @property
    def patches(self) -> int:
        """L, the number of patches of one image."""
        return self.grid[0] * self.grid[1]

    def forward(self, images: Tensor, mask: Mask) -> MAEOutput:
        """Reconstruct what `mask` hides.

        Raises:
            UserError: when the images are not of the model's size, or the mask is of another grid or hides nothing.
        """
        self._check(images, mask)
        if not mask.dropped.shape[1]:
            raise UserError("the mask hides no patch, so there is nothing to predict; keep fewer, or use encode()")
        patches_BLP = patchify(images, self.patch_size)
        prediction_BLP = self.decoder(encode(self.encoder, patches_BLP, mask), mask)
        return MAEOutput(loss=self.loss(patches_BLP, prediction_BLP, mask), prediction=prediction_BLP, mask=mask)

    def encode(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Tokens [B, prefix + K, D] of the visible patches; of every patch when `mask` is None."""
        self._check(images, mask)
        return encode(self.encoder, patchify(images, self.patch_size), mask)

    def loss(self, patches_BLP: Tensor, prediction_BLP: Tensor, mask: Mask) -> Tensor:
        """Mean squared error over the hidden patches only (section 3), in at least single precision."""
        target = take_patches(patches_BLP, mask.dropped)
        prediction = take_patches(prediction_BLP, mask.dropped)
        if target.dtype.itemsize < 4:
            target = target.float()
        if self.normalise_target:
            target = normalise_patches(target)
        return (prediction.to(target.dtype) - target).square().mean()

    def _check(self, images: Tensor, mask: Mask | None) -> None:
        expected = (self.channels, *self.image_size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise UserError(
                f"the images are {_by(images.shape)} but the model was built for batches of {_by(expected)} (channels "
                "x height x width); resize or convert them, or rebuild the model"
            )
        if mask is None:
            return
        if mask.patches != self.patches or mask.grid not in (None, self.grid):
            found = f"{mask.patches} patches" if mask.grid is None else f"a grid of {_by(mask.grid)}"
            raise UserError(
                f"the mask covers {found} but the model has {_by(self.grid)}; build it with patches={self.grid}"
            )
        if len(mask.kept) != len(images):
            raise UserError(
                f"the mask is for {len(mask.kept)} images, not {len(images)}; build it with batch={len(images)}"
            )


def _by(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))
