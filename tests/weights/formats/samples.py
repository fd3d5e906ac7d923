"""Networks with random weights, none of them zero, and the containers that other projects put them into."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmae.core.decoder import DecoderConfig
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from openmae.weights.building import encoder_from
from openmae.weights.stored import Stored
from openmae.weights.strict import load_strictly
from openmae.weights.weights import Weights

CLASSES = 7
# 192 wide means 3 heads, and a decoder has 16: what a file without a configuration is taken for.
NETWORK = Network(
    backbone="vit_tiny_patch16_224",
    image_size=(16, 16),
    patch_size=4,
    depth=2,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    eval_resize=16,
)
DECODER = DecoderConfig(width=32, depth=1, heads=16)
PUBLISHED = {
    "B": Network(
        backbone="vit_base_patch16_224", image_size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_resize=256
    ),
    "L": Network(
        backbone="vit_large_patch16_224", image_size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_resize=256
    ),
    "H": Network(
        backbone="vit_huge_patch14_224", image_size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_resize=256
    ),
    "H at 448": Network(
        backbone="vit_huge_patch14_224", image_size=(448, 448), mean=IMAGENET_MEAN, std=IMAGENET_STD, eval_resize=512
    ),
}
KINDS = ("encoder", "autoencoder", "fine-tuned", "by class token", "probe")


@cache
def shapes_of(network: Network, kind: str) -> dict[str, Tensor]:
    """Our names of a kind of weights, with tensors on the meta device."""
    with torch.device("meta"):
        if kind == "autoencoder":
            return dict(network.build_autoencoder().state_dict())
        if kind == "probe":
            width = network.architecture.width
            probe = {"head.0.running_mean": torch.empty(width), "head.0.running_var": torch.empty(width)}
            probe |= {"head.0.num_batches_tracked": torch.empty((), dtype=torch.int64)}
            probe |= {"head.1.weight": torch.empty(CLASSES, width), "head.1.bias": torch.empty(CLASSES)}
            return shapes_of(network, "encoder") | probe
        pooled = "avg" if kind == "fine-tuned" else "token"
        classes = 0 if kind == "encoder" else CLASSES
        return dict(network.build_encoder(num_classes=classes, global_pool=pooled).state_dict())


def random_like(shapes: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of the same shapes, small, and nowhere zero."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if shape.dtype == torch.int64:
            found[name] = torch.tensor(9)
            continue
        tensor = torch.randn(shape.shape, generator=generator) * 0.1
        found[name] = torch.where(tensor == 0, 0.1, tensor) + (1.0 if "norm" in name or "var" in name else 0.0)
    return found


def weights_of(kind: str, network: Network = NETWORK, *, seed: int = 0) -> Weights:
    """Random weights of a kind."""
    if kind == "autoencoder":
        network = with_decoder(network)
    return Weights(tensors=random_like(shapes_of(network, kind), seed), network=network, file=Path("here"))


def with_decoder(network: Network, decoder: DecoderConfig = DECODER, **changes: Any) -> Network:
    """The network of an autoencoder."""
    return replace(network, decoder=decoder, **changes)


def stored(tensors: Mapping[str, Tensor], **more: Any) -> Stored:
    """Tensors as if read from a file."""
    return Stored(tensors=tensors, **{"file": Path("somewhere/file.pth"), **more})


def assert_same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Names, types, shapes and every bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


def autoencoder_from(weights: Weights) -> MaskedAutoencoder:
    """The whole model, in eval mode."""
    model = weights.network.build_autoencoder()
    load_strictly(model, weights.tensors, weights.file)
    return model.eval()


def features_of(weights: Weights, images: Tensor) -> Tensor:
    """Every token after the last norm."""
    with torch.inference_mode():
        found: Tensor = encoder_from(weights).forward_features(images)
    return found


def save_as_fair(file: Path, tensors: Mapping[str, Tensor], **options: Any) -> Path:
    """A file as a run of the reference leaves it: optimizer, epoch, scaler and options beside the model."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    state = {"model": dict(tensors), "optimizer": optimizer.state_dict(), "epoch": 799}
    torch.save({**state, "scaler": {"scale": 65536.0}, "args": Namespace(**options)}, file)
    return file


def save_as_mm(file: Path, tensors: Mapping[str, Tensor], cfg: str = "") -> Path:
    """A file as MMEngine leaves it."""
    meta = {"epoch": 300, "iter": 9, "cfg": cfg, "dataset_meta": {"classes": None}, "mmengine_version": "0.1.0"}
    torch.save({"meta": meta, "state_dict": dict(tensors), "param_schedulers": [{"last_step": 3}]}, file)
    return file
