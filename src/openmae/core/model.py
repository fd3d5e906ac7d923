"""The masked autoencoder: from images and a mask to the loss and the prediction."""

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
from openmae.core.geometry import size_text
from openmae.core.masking import Mask
from openmae.core.patches import normalise_patches, take_patches
from openmae.core.positions import AxisOrder
from openmae.errors import UserError


class MAEOutput(NamedTuple):
    """The result of one forward pass: scalar `loss`, `prediction` [B, L, P] in grid order, and the `mask` used."""

    loss: Tensor
    prediction: Tensor
    mask: Mask


class MaskedAutoencoder(nn.Module):
    """A Vision Transformer that learns by predicting hidden patches (He et al., arXiv 2111.06377, section 3).

    Args:
        encoder: a timm model name, or a timm VisionTransformer (class token, registers, or neither). It is changed in
            place: its weights are initialised anew and its positions become the fixed sine-cosine table.
        decoder: size of the decoder; the paper's when None.
        normalise_target: predict pixels normalised per patch (the paper's best), or as they are.
        axis_order: which axis the first half of the position channels encodes; see `sincos_positions`.
        mlp_bias_std: see `initialise`.
        encoder_options: when `encoder` is a name: image_size, patch_size, channels, width, … of `create_encoder`.

    `geometry` has image size, patch size and grid. Images are [B, C, H, W] floats, already normalised by the data set's
    statistics; L = H/patch * W/patch.

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
        self.geometry = encoder_geometry(vit)
        self.channels = vit.patch_embed.proj.in_channels
        self.decoder = Decoder(
            decoder or DecoderConfig(),
            encoder_width=vit.embed_dim,
            prefix_tokens=vit.num_prefix_tokens,
            grid=self.geometry.grid,
            patch_values=self.geometry.patch_values(self.channels),
            axis_order=axis_order,
        )
        initialise(self, mlp_bias_std=mlp_bias_std)
        fix_positions(vit, axis_order)
        for unused in (vit.attn_pool, vit.fc_norm, vit.head):  # parts of a classifier: the loss does not depend on them
            if unused is not None:
                unused.requires_grad_(False)  # DistributedDataParallel refuses parameters that get no gradient

    def forward(self, images: Tensor, mask: Mask, counted: Tensor | None = None) -> MAEOutput:
        """Reconstruct the patches that `mask` hides; `counted` goes to the loss.

        Raises:
            UserError: when the images are not of the model's size, or the mask is of another grid or hides nothing.
        """
        self._check(images, mask)
        if not mask.dropped.shape[1]:
            raise UserError("the mask hides no patch, so there is nothing to predict; keep fewer, or use encode()")
        patches_BLP = self.geometry.patchify(images)
        prediction_BLP = self.decoder(encode(self.encoder, patches_BLP, mask), mask)
        return MAEOutput(
            loss=self.loss(patches_BLP, prediction_BLP, mask, counted), prediction=prediction_BLP, mask=mask
        )

    def encode(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Tokens [B, prefix + K, D] of the visible patches; of every patch when `mask` is None."""
        self._check(images, mask)
        return encode(self.encoder, self.geometry.patchify(images), mask)

    def loss(self, patches_BLP: Tensor, prediction_BLP: Tensor, mask: Mask, counted_BL: Tensor | None = None) -> Tensor:
        """Mean squared error over the hidden patches only (section 3), in at least single precision.

        With `counted_BL` [B, L] of truth values, over those hidden patches for which it is true; 0 when there are none.
        """
        target = take_patches(patches_BLP, mask.dropped)
        prediction = take_patches(prediction_BLP, mask.dropped)
        if target.dtype.itemsize < 4:
            target = target.float()
        if self.normalise_target:
            target = normalise_patches(target)
        squares = (prediction.to(target.dtype) - target).square()
        if counted_BL is None:
            return squares.mean()
        counted = counted_BL.gather(1, mask.dropped)
        # Not a sum over an index: how many patches count is known to the device alone.
        return (squares.mean(dim=-1) * counted).sum() / counted.sum().clamp(min=1)

    def _check(self, images: Tensor, mask: Mask | None) -> None:
        expected, grid = (self.channels, *self.geometry.size), self.geometry.grid
        if tuple(images.shape[1:]) != expected:
            raise UserError(
                f"the images are {size_text(images.shape)} but the model was built for batches of {size_text(expected)}"
                " (channels x height x width); resize or convert them, or rebuild the model"
            )
        if mask is None:
            return
        if mask.patches != self.geometry.patches or mask.grid not in (None, grid):
            found = f"{mask.patches} patches" if mask.grid is None else f"a grid of {size_text(mask.grid)}"
            raise UserError(
                f"the mask covers {found} but the model has {size_text(grid)}; build it with patches={grid}"
            )
        batch = images.shape[0]  # not len(): with torch 2.10 it becomes a constant of an exported graph
        if mask.kept.shape[0] != batch:
            raise UserError(f"the mask is for {mask.kept.shape[0]} images, not {batch}; build it with batch={batch}")
