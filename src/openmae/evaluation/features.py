"""Features of images: the class token and the mean of the patch tokens, unmasked and deterministic."""

from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from openmae.core.encoder import encode_images
from openmae.core.network import Network
from openmae.data.batches import BadRecord, SeededImages
from openmae.data.decoding import Reading
from openmae.data.sources import Source
from openmae.data.targets import Targets
from openmae.data.transforms import EvalTransform, normalise_pixels
from openmae.data.workers import automatic_workers, batches_of, evaluation_loader
from openmae.errors import UserError
from openmae.evaluation.gathering import gather_bad, gather_rows
from openmae.recipes.values import Pooling
from openmae.reporter import ProgressView, say
from openmae.training.pixels import pixel_format, reading_of
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


def evaluation_transform(network: Network) -> EvalTransform:
    """How images are resized and cropped for this network when nothing may be random."""
    return EvalTransform(
        size=network.image_size,
        resize=network.eval_resize,
        interpolation=network.interpolation,
        exact=network.exact_decoding,
    )


def evaluation_images(
    network: Network, source: Source, targets: Targets | None = None, *, reading: Reading | None = None
) -> SeededImages:
    """Every image of `source` as this network wants it when nothing may be random; bad ones are left out."""
    return SeededImages(
        source=source,
        transform=evaluation_transform(network),
        format=pixel_format(network),
        reading=reading or reading_of(network),
        targets=targets,
        replace_bad=False,
    )


@torch.inference_mode()
def extract_features(
    vit: VisionTransformer,
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
        vit: in eval mode; moved to the GPU if there is one.
        network: of these weights: image size, channels, statistics.
        source: the images.
        reading: how their files are read; as the network says when not given.
        batch_size: does not change the features beyond rounding (1e-5).
        fabric: the processes that share the work; this one alone when not given.
    """
    fabric = fabric or measuring_processes()
    device = fabric.device
    vit = vit.to(device)
    dataset = evaluation_images(network, source, reading=reading)
    loader = evaluation_loader(
        dataset,
        batch_size=batch_size,
        workers=automatic_workers(),
        pin_memory=device.type == "cuda",
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    # Each begins with no rows, because a process may have no batch.
    cls: list[Tensor] = [torch.empty(0, vit.embed_dim)]
    mean: list[Tensor] = [torch.empty(0, vit.embed_dim)]
    indices: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    bad: list[BadRecord] = []
    seen = 0
    with (
        ProgressView("features", len(source)) as view,
        batches_of(loader) as batches,
    ):
        for batch in batches:
            bad += batch.bad
            seen = min(len(source), seen + fabric.world_size * (len(batch.indices) + len(batch.bad)))
            view.update(seen, "features", f"{seen:,} of {len(source):,} images")
            if not len(batch.indices):
                continue
            images = normalise_pixels(batch.images.to(device, non_blocking=True), network.mean, network.std)
            pooled = pool_tokens(vit, encode_images(vit, images))
            mean.append(pooled.mean.float().cpu())
            if pooled.cls is not None:
                cls.append(pooled.cls.float().cpu())
            indices.append(batch.indices)
    bad = gather_bad(fabric, bad)
    mean_ND, indices_N = (gather_rows(fabric, torch.cat(parts)) for parts in (mean, indices))
    cls_ND = None if vit.cls_token is None else gather_rows(fabric, torch.cat(cls))
    if not len(indices_N):
        raise UserError(
            f"none of the {len(source)} images can be decoded, e.g. {bad[0].name} ({bad[0].reason}); check --data"
        )
    if bad:
        say(f"{len(bad)} images could not be decoded and were left out, e.g. {bad[0].name}: {bad[0].reason}")
    order = indices_N.argsort()
    return Features(
        cls=None if cls_ND is None else cls_ND[order].numpy(),
        mean=mean_ND[order].numpy(),
        indices=indices_N[order].numpy(),
        bad=bad,
    )
