"""What a masked autoencoder costs: parameters, floating-point operations and memory of one image, counted.

Nothing is computed and no weights are allocated: the network is run on tensors that have shapes only. One
multiplication and one addition count as two operations, as in the data sheets of GPUs.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# The only tensors without memory that torch's autocast and attention treat as those of a CPU.
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from openmae.core.masking import kept_count, random_mask
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Network


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one network.

    Args:
        parameters: those that are trained, encoder and decoder.
        encoder_parameters: those of the encoder among them.
        fixed: numbers that the weights file holds beside them, such as the tables of positions.
        encoder_fixed: those of the encoder among them.
        largest_block: parameters of one block of the encoder.
        patches: of one image.
        visible: how many of them the encoder sees.
        encoder: operations of one image forward through the encoder.
        decoder: the same of the decoder and the loss.
        step: operations of one image forward and backward through both.
        activations: bytes that one image keeps in memory from the forward to the backward pass.
        copies: bytes of the weights' copies in half precision, which mixed precision keeps until then.
    """

    parameters: int
    encoder_parameters: int
    fixed: int
    encoder_fixed: int
    largest_block: int
    patches: int
    visible: int
    encoder: int
    decoder: int
    step: int
    activations: int
    copies: int


@cache  # seconds for a large network, and a plan asks for the same one again
def count_cost(network: Network, *, mask_ratio: float, mixed: bool) -> Cost:
    """Count the cost of pre-training a network.

    Args:
        network: one with a decoder.
        mask_ratio: share of the patches that the encoder does not see.
        mixed: whether the forward pass computes in half precision (bf16 or fp16), else in single precision.

    Raises:
        UserError: when the network cannot be built.
    """
    with torch.device("meta"):
        model = network.build_autoencoder()
    kept = kept_count(model.geometry.patches, mask_ratio)
    mask = random_mask(batch=1, patches=model.geometry.grid, kept=kept).to("meta")
    image = torch.empty(1, model.channels, *model.geometry.size, device="meta")
    with FlopCounterMode(display=False) as counter:
        loss = model(image, mask).loss
        forward = counter.get_total_flops()
        decoder = sum(counter.get_flop_counts()["MaskedAutoencoder.decoder"].values())
        loss.backward()
    one, two = _kept_bytes(model, kept, mixed=mixed)
    trained, fixed = _sizes(model)
    encoder_trained, encoder_fixed = _sizes(model.encoder)
    return Cost(
        parameters=trained,
        encoder_parameters=encoder_trained,
        fixed=fixed,
        encoder_fixed=encoder_fixed,
        largest_block=sum(parameter.numel() for parameter in model.encoder.blocks[0].parameters()),
        patches=model.geometry.patches,
        visible=kept,
        encoder=forward - decoder,
        decoder=decoder,
        step=counter.get_total_flops(),
        activations=two - one,
        copies=max(0, 2 * one - two) if mixed else 0,
    )


def _sizes(module: torch.nn.Module) -> tuple[int, int]:
    """How many numbers a module trains, and how many more its weights file holds."""
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return trained, sum(tensor.numel() for tensor in module.state_dict().values()) - trained


def _kept_bytes(model: MaskedAutoencoder, kept: int, *, mixed: bool) -> tuple[int, int]:
    """Bytes that autograd keeps from the forward to the backward pass, for one image and for two.

    Each storage counts once, and those of the parameters not at all. The difference of the two is what an image takes;
    the rest is copies of the weights.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        return (_kept_by(model, 1, kept, own, mixed=mixed), _kept_by(model, 2, kept, own, mixed=mixed))


def _kept_by(model: MaskedAutoencoder, batch: int, kept: int, own: set[int], *, mixed: bool) -> int:
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # held, so that no other one gets its address
        return tensor

    images = torch.empty(batch, model.channels, *model.geometry.size)
    mask = random_mask(batch=batch, patches=model.geometry.grid, kept=kept)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        _ = model(images, mask)
    return sum(storage.nbytes() for storage in storages.values())
