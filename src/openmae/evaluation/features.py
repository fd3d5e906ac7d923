"""Features of images: the class token and the mean of the patch tokens, unmasked and deterministic."""

from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.encoder import encode_images
from openmae.core.network import Network
from openmae.data.batches import BadRecord, Batch
from openmae.data.decoding import Reading
from openmae.data.sources import Source
from openmae.data.transforms import normalise_pixels
from openmae.data.workers import automatic_workers
from openmae.errors import UserError
from openmae.evaluation.forward import evaluation_images, run_over
from openmae.recipes.values import Pooling
from openmae.training.processes.devices import measuring_processes

BATCH_SIZE = 256


class Features(NamedTuple):
    """`cls` and `mean` [N, D] float32, the source's `indices` [N], and the images that could not be decoded.

    `cls` is None for an encoder without a class token.
    """

    cls: NDArray[np.float32] | None
    mean: NDArray[np.float32]
    indices: NDArray[np.int64]
    bad: list[BadRecord]

    def pooled(self, pool: Pooling) -> NDArray[np.float32]:
        """The features that a protocol asks for."""
        if pool == "mean":
            return self.mean
        if self.cls is None:
            raise UserError("this encoder has no class token; use --pool mean")
        return self.cls


class Pooled(NamedTuple):
    """The two usual summaries of an image's tokens, [B, D] each."""

    cls: Tensor | None
    mean: Tensor


def pool_tokens(vit: VisionTransformer, tokens_BTD: Tensor) -> Pooled:
    """Class token and mean of the patch tokens, through `fc_norm` where fine-tuning has put one."""
    cls = tokens_BTD[:, 0] if vit.cls_token is not None else None
    mean: Tensor = vit.fc_norm(tokens_BTD[:, vit.num_prefix_tokens :].mean(dim=1))
    return Pooled(cls=cls, mean=mean)


class FeatureModel(nn.Module):
    """A model from images [B, C, H, W], normalised, to their features.

    Args:
        width: D of the features.
        has_class_token: whether there is a `cls`.
    """

    def __init__(self, *, width: int, has_class_token: bool) -> None:
        super().__init__()
        self.width, self.has_class_token = width, has_class_token


class PooledEncoder(FeatureModel):
    """The features of an encoder of torch."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__(width=vit.embed_dim, has_class_token=vit.cls_token is not None)
        self.vit = vit

    def forward(self, images: Tensor) -> Pooled:
        return pool_tokens(self.vit, encode_images(self.vit, images))


@torch.inference_mode()
def extract_features(
    encoder: VisionTransformer | FeatureModel,
    network: Network,
    source: Source,
    *,
    reading: Reading | None = None,
    batch_size: int = BATCH_SIZE,
    fabric: Fabric | None = None,
) -> Features:
    """Encode every readable image of `source` once, in its order; several processes share the work, and each gets all.

    The features are the same, bit for bit, for any number of processes with as many threads each.

    Args:
        encoder: in eval mode; moved to the GPU if there is one.
        network: of these weights: image size, channels, statistics.
        source: the images.
        reading: how their files are read; as the network says when not given.
        batch_size: does not change the features beyond rounding (1e-5).
        fabric: the processes that share the work; this one alone when not given.
    """
    fabric = fabric or measuring_processes()
    device = fabric.device
    model = encoder if isinstance(encoder, FeatureModel) else PooledEncoder(encoder)
    model = model.to(device)

    def features_of(batch: Batch) -> Tensor:
        pooled: Pooled = model(normalise_pixels(batch.images, network.mean, network.std))
        parts = (pooled.mean,) if pooled.cls is None else (pooled.mean, pooled.cls)
        return torch.stack(parts, dim=1).float().cpu()  # [B, 1 or 2, D]

    passed = run_over(
        fabric,
        evaluation_images(network, source, reading=reading),
        features_of,
        empty=torch.empty(0, 2 if model.has_class_token else 1, model.width),
        batch_size=batch_size,
        workers=automatic_workers(),
        title="features",
    )
    assert passed is not None, "nobody gives up"
    mean, *cls = (rows.contiguous().numpy() for rows in passed.rows.unbind(dim=1))
    return Features(cls=cls[0] if cls else None, mean=mean, indices=passed.indices, bad=passed.bad)
