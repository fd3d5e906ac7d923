"""What a network costs, counted, beside numbers that follow from its definition."""

import pytest
import torch
from torch import Tensor

from openmae.core.cost import Cost, count_cost
from openmae.core.decoder import DecoderConfig
from openmae.core.masking import random_mask
from openmae.core.network import Network

WIDTH, DEPTH, SIDE, PATCH, CHANNELS, DECODER = 24, 2, 16, 4, 1, 16
TOKENS, KEPT = (SIDE // PATCH) ** 2, 4
NETWORK = Network(
    backbone="vit_tiny_patch16_224",
    image_size=(SIDE, SIDE),
    patch_size=PATCH,
    channels=CHANNELS,
    width=WIDTH,
    depth=DEPTH,
    heads=2,
    mean=(0.5,),
    std=(0.2,),
    eval_resize=SIDE,
    decoder=DecoderConfig(width=DECODER, depth=1, heads=2),
)


@pytest.fixture(scope="module")
def cost() -> Cost:
    return count_cost(NETWORK, mask_ratio=0.75, mixed=False)


def operations_of_blocks(tokens: int, width: int, depth: int) -> int:
    """Forward: qkv, projection and MLP are 12 width^2 a token, and attention 2 tokens x width; two for each."""
    return 2 * depth * tokens * (12 * width**2 + 2 * tokens * width)


def test_operations_follow_from_tokens_width_and_depth(cost: Cost) -> None:
    values = PATCH**2 * CHANNELS
    encoder = operations_of_blocks(KEPT + 1, WIDTH, DEPTH) + 2 * KEPT * values * WIDTH
    decoder = operations_of_blocks(TOKENS + 1, DECODER, 1) + 2 * (
        (KEPT + 1) * WIDTH * DECODER + TOKENS * DECODER * values
    )
    assert (cost.encoder, cost.decoder) == (encoder, decoder)
    # A backward pass is two forward ones, but that nobody needs the gradient of the pixels.
    assert cost.step == 3 * (encoder + decoder) - 2 * KEPT * values * WIDTH


def test_parameters_are_those_that_the_network_trains_and_stores(cost: Cost) -> None:
    model = NETWORK.build_autoencoder()
    assert cost.parameters == sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert cost.parameters + cost.fixed == sum(one.numel() for one in model.state_dict().values())
    stored = sum(one.numel() for one in model.encoder.state_dict().values())
    assert cost.encoder_parameters + cost.encoder_fixed == stored
    assert (cost.patches, cost.visible) == (TOKENS, KEPT)


@pytest.mark.parametrize("mixed", [False, True])
def test_activations_are_what_a_real_forward_pass_keeps(mixed: bool) -> None:
    model = NETWORK.build_autoencoder()
    own = {one.untyped_storage()._cdata for one in model.parameters()}

    def kept_bytes(batch: int) -> int:
        storages = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage()._cdata not in own:
                storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        mask = random_mask(batch=batch, patches=(4, 4), kept=KEPT)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            _ = model(torch.rand(batch, CHANNELS, SIDE, SIDE), mask)
        return sum(storage.nbytes() for storage in storages.values())

    cost = count_cost(NETWORK, mask_ratio=0.75, mixed=mixed)
    assert cost.activations == kept_bytes(2) - kept_bytes(1)
    assert cost.copies == (2 * kept_bytes(1) - kept_bytes(2) if mixed else 0)


def test_counting_draws_no_random_numbers_and_leaves_the_next_network_as_it_was() -> None:
    torch.manual_seed(7)
    expected = NETWORK.build_autoencoder().decoder.embed.weight
    torch.manual_seed(7)
    count_cost(NETWORK, mask_ratio=0.75, mixed=True)
    torch.manual_seed(7)
    assert torch.equal(NETWORK.build_autoencoder().decoder.embed.weight, expected)
