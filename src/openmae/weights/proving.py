"""Proof that written weights are the same: read back bit for bit, and run in the library that they are for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import timm as installed_timm
import torch
from torch import Tensor
from torch.nn import functional as F

from openmae.core.masking import mask_from_noise
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.weights.building import encoder_from
from openmae.weights.containers import read_stored
from openmae.weights.finding import weights_file
from openmae.weights.formats import timm
from openmae.weights.reading import layout_of
from openmae.weights.results import TargetName
from openmae.weights.stored import Stored
from openmae.weights.strict import load_strictly
from openmae.weights.weights import Weights

TOLERANCE = 1e-5
"""Both sides compute in double precision, so that rounding stays far below it."""
MASK_RATIO = 0.75  # as `huggingface.config_of` writes it
IMAGES = 2


class Compared(NamedTuple):
    """Largest difference of the outputs, and the library that made those of the written weights.

    `loss` is the difference of an autoencoder's loss for the same mask; None for everything else.
    """

    difference: float
    library: str
    loss: float | None = None


def require_same_tensors(weights: Weights, written: Path) -> list[str]:
    """Read `written` back and compare every bit.

    Returns:
        Facts about the network that the file does not state, and that its reader would assume differently.

    Raises:
        UserError: when it is not the same.
    """
    stored = read_stored(weights_file(written, with_decoder=True))
    normalised = weights.network.normalise_target
    told = replace(stored, config=stored.config or {"model_args": _sizes(weights.network)})
    back = layout_of(told).weights_from(told, normalised=normalised)
    differing = sorted(weights.tensors.keys() ^ back.tensors.keys()) or [
        name for name, tensor in weights.tensors.items() if not _same_bits(tensor, back.tensors[name])
    ]
    if differing:
        raise UserError(
            f"{weights.file} does not come back from the written file: {differing[0]} differs, and "
            f"{len(differing) - 1} more; nothing was written, try another --to"
        )
    features, others = (encoder_from(one).double()(_images(weights.network)) for one in (weights, back))
    if not torch.equal(features, others):
        raise UserError(
            f"{weights.file} is of {weights.network.backbone}, which computes something else than the plain network "
            "that others would build from the written file; use --to timm"
        )
    return _not_said(stored, weights.network)


def compare(weights: Weights, target: TargetName, written: Path) -> Compared | None:
    """Run the source and the written weights on one random input; None when the target's library is not installed."""
    if target == "timm":
        theirs = _loaded_by_timm(weights, written)
        return Compared(_difference(theirs, weights), f"timm {installed_timm.__version__}")
    if target == "huggingface" and find_spec("transformers"):
        transformers = import_module("transformers")
        with _silent(transformers):
            difference, loss = _difference_in_transformers(transformers, weights, written)
        return Compared(difference, f"transformers {transformers.__version__}", loss)
    return None


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    views = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*views)  # as bytes, because NaN is not equal to NaN


def _sizes(network: Network) -> dict[str, Any]:
    """The facts that tensors do not show, as a config.json beside a file states them."""
    sizes: dict[str, Any] = {"img_size": list(network.image_size), "num_heads": network.architecture.heads}
    if network.decoder is not None:
        sizes["decoder_num_heads"] = network.decoder.heads
    return {name: value for name, value in sizes.items() if value is not None}


def _not_said(stored: Stored, network: Network) -> list[str]:
    """The facts that a reader of the file alone gets wrong."""
    try:
        found: Network | None = layout_of(stored).weights_from(stored).network
    except UserError:  # without these facts it cannot be read at all
        found = None
    facts: dict[str, Callable[[Network], Any]] = {
        "image_size": lambda one: one.image_size,
        "heads": lambda one: one.architecture.heads,
        "decoder_heads": lambda one: one.decoder and one.decoder.heads,
        "normalise_target": lambda one: one.decoder and one.normalise_target,
        "mean": lambda one: one.mean,
        "std": lambda one: one.std,
        "pixel_type": lambda one: one.pixel_type,
    }
    read = {name: (fact(network), fact(found) if found else None) for name, fact in facts.items()}
    return [f"{name} {ours}" for name, (ours, theirs) in read.items() if ours is not None and ours != theirs]


def _images(network: Network) -> Tensor:
    """Random pictures [B, C, H, W]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, network.channels, *network.image_size, generator=generator, dtype=torch.float64)


def _head(weights: Weights, pooled_BD: Tensor) -> Tensor:
    """The classifier of the source on what its encoder has pooled."""
    weight, bias = (weights.tensors[f"head.{leaf}"].double() for leaf in ("weight", "bias"))
    return F.linear(pooled_BD, weight, bias)


@torch.no_grad()
def _difference(theirs: torch.nn.Module, weights: Weights) -> float:
    """Largest difference of the tokens of a timm network, and of its class scores if it has some."""
    images, ours = _images(weights.network), encoder_from(weights).double()
    differences = [ours.forward_features(images) - theirs.forward_features(images)]  # type: ignore[operator]
    if weights.has_head:
        differences.append(_head(weights, ours(images)) - theirs(images))
    return max(float(difference.abs().max()) for difference in differences)


def _loaded_by_timm(weights: Weights, written: Path) -> torch.nn.Module:
    """The network that timm makes of the written file, in double precision."""
    if written.is_dir():
        model = installed_timm.create_model(f"local-dir:{written}", pretrained=True)
    else:
        config = timm.config_of(weights)
        options = {name: value for name, value in config["model_args"].items() if name != "num_classes"}
        model = installed_timm.create_model(
            weights.network.backbone, num_classes=config["num_classes"], checkpoint_path=str(written), **options
        )
    found: torch.nn.Module = model.eval().double()
    return found


@torch.no_grad()
def _difference_in_transformers(transformers: Any, weights: Weights, folder: Path) -> tuple[float, float | None]:
    """Largest difference of the outputs, an autoencoder's loss among them, and that of the loss alone."""
    images = _images(weights.network)
    if weights.has_decoder:
        theirs = _loaded_by(transformers.ViTMAEForPreTraining, folder)
        model = weights.network.build_autoencoder()
        load_strictly(model, weights.tensors, weights.file)
        patches = model.geometry.patches
        noise = torch.rand(IMAGES, patches, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = model.eval().double()(images, mask_from_noise(noise, int(patches * (1 - MASK_RATIO))))
        found = theirs(images, noise=noise)
        loss = float((expected.loss - found.loss).abs())
        return max(float((expected.prediction - found.logits).abs().max()), loss), loss
    encoder = encoder_from(weights).double()
    if weights.has_head:
        theirs = _loaded_by(transformers.ViTForImageClassification, folder)
        differences = [_head(weights, encoder(images)) - theirs(images).logits]
        theirs = theirs.vit
    else:
        theirs, differences = _loaded_by(transformers.ViTModel, folder, add_pooling_layer=False), []
    differences.append(encoder.forward_features(images) - theirs(images).last_hidden_state)
    return max(float(difference.abs().max()) for difference in differences), None


def _loaded_by(kind: Any, folder: Path, **options: Any) -> Any:
    model, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"{kind.__name__} of transformers would initialise {missing[0]} afresh, and {len(missing) - 1} more; "
            "nothing was written, try another --to"
        )
    return model.eval().double()


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """transformers without its bars and reports."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
