"""The head of linear evaluation: batch normalisation and one linear layer on a frozen encoder."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.encoder import encode_images
from openmae.errors import UserError
from openmae.evaluation.features import pool_tokens
from openmae.evaluation.heads.fitted import NORM_EPS
from openmae.recipes.values import Pooling


class LinearProbe(nn.Module):
    """A frozen encoder, batch normalisation without affine parameters, one linear layer.

    On several devices each normalises by the images that it has, as in the reference: the one thing that makes training
    depend on their number.
    """

    def __init__(self, vit: VisionTransformer, outputs: int, *, pool: Pooling, head_std: float) -> None:
        super().__init__()
        self.encoder = vit.requires_grad_(False)
        self.pool = pool
        self.head = nn.Sequential(
            nn.BatchNorm1d(vit.embed_dim, affine=False, eps=NORM_EPS), nn.Linear(vit.embed_dim, outputs)
        )
        linear = self.head[1]
        assert isinstance(linear, nn.Linear)
        nn.init.normal_(linear.weight, std=head_std)
        nn.init.zeros_(linear.bias)

    def train(self, mode: bool = True) -> "LinearProbe":
        """Only the head ever trains; the encoder measures the same in both modes."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, C, H, W] to the outputs of a task [B, outputs]."""
        with torch.no_grad():
            pooled = pool_tokens(self.encoder, encode_images(self.encoder, images))
        features = pooled.mean if self.pool == "mean" else pooled.cls
        if features is None:
            raise UserError("this encoder has no class token; use --pool mean")
        outputs: Tensor = self.head(features)
        return outputs
