"""A network as plain values, and building it from them."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openmae.core.decoder import DecoderConfig
from openmae.core.encoder import create_encoder
from openmae.core.geometry import Geometry
from openmae.core.model import MaskedAutoencoder
from openmae.core.network import Architecture, Network

SMALL = Network(
    backbone="vit_tiny_patch16_224",
    image_size=(12, 18),
    patch_size=6,
    channels=2,
    width=24,
    depth=2,
    heads=3,
    mean=(0.4, 0.5),
    std=(0.2, 0.3),
    eval_resize=12,
    decoder=DecoderConfig(width=16, depth=1, heads=2),
)
SIZES: dict[str, Any] = {"image_size": (12, 18), "patch_size": 6, "channels": 2, "width": 24, "depth": 2, "heads": 3}
TIMMS = Network(
    backbone="vit_tiny_patch16_224", image_size=(224, 224), mean=(0.5,) * 3, std=(0.2,) * 3, eval_resize=256
)


def require_equal(found: nn.Module, expected: nn.Module) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    trainable = [[p.requires_grad for p in module.parameters()] for module in (found, expected)]
    assert trainable[0] == trainable[1]


def after_seed(build: Any) -> tuple[Any, Tensor]:
    """A module built after a seed, and a number drawn from torch's generator after that."""
    torch.manual_seed(3)
    return build(), torch.rand(1)


def test_encoder_is_the_one_that_timm_builds_with_the_same_seed() -> None:
    options: dict[str, Any] = {"num_classes": 5, "global_pool": "avg", "drop_path_rate": 0.5}
    vit, draw = after_seed(lambda: SMALL.build_encoder(**options))
    expected, expected_draw = after_seed(lambda: create_encoder("vit_tiny_patch16_224", **SIZES, **options))
    require_equal(vit, expected)
    assert torch.equal(draw, expected_draw)
    assert vit.head.out_features == 5
    assert vit.blocks[-1].drop_path1.drop_prob == 0.5


@pytest.mark.parametrize("bias_std", [0.0, 1e-6])
@pytest.mark.parametrize("network", [SMALL, replace(SMALL, normalise_target=False, axis_order="row-first")])
def test_autoencoder_is_the_one_built_by_hand_with_the_same_seed(network: Network, bias_std: float) -> None:
    model, draw = after_seed(lambda: network.build_autoencoder(mlp_bias_std=bias_std))
    expected, expected_draw = after_seed(
        lambda: MaskedAutoencoder(
            create_encoder("vit_tiny_patch16_224", **SIZES),
            decoder=DecoderConfig(width=16, depth=1, heads=2),
            normalise_target=network.normalise_target,
            axis_order=network.axis_order,
            mlp_bias_std=bias_std,
        )
    )
    require_equal(model, expected)
    assert torch.equal(draw, expected_draw)
    assert model.normalise_target is network.normalise_target


def test_geometry_and_architecture_are_those_of_the_built_network_and_draw_nothing() -> None:
    before = torch.get_rng_state()
    assert SMALL.geometry == Geometry(size=(12, 18), patch=(6, 6))
    assert SMALL.architecture == Architecture("vit_tiny_patch16_224", patch_size=6, width=24, depth=2, heads=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert SMALL.build_autoencoder().geometry == SMALL.geometry


def test_sizes_left_open_are_the_backbones() -> None:
    assert TIMMS.geometry == Geometry(size=(224, 224), patch=(16, 16))
    assert TIMMS.architecture == Architecture("vit_tiny_patch16_224", patch_size=16, width=192, depth=12, heads=3)
    spelt_out = replace(TIMMS, patch_size=16, width=192, depth=12, heads=3)
    assert spelt_out.architecture == TIMMS.architecture
    assert replace(TIMMS, depth=11).architecture != TIMMS.architecture


def test_architecture_does_not_depend_on_image_size_and_channels() -> None:
    other = replace(SMALL, image_size=(24, 24), eval_resize=24, channels=13, mean=(), std=())
    assert other.architecture == SMALL.architecture
    assert other.geometry.grid == (4, 4)


def test_geometry_of_images_that_no_memory_stores_costs_none() -> None:
    huge = replace(SMALL, image_size=(6 * 10**6, 6 * 10**6), eval_resize=6 * 10**6)
    assert huge.geometry.patches == 10**12


def test_networks_are_plain_values() -> None:
    assert SMALL.geometry  # computed and cached, yet no part of the value
    values = asdict(SMALL)
    assert values["decoder"] == {"width": 16, "depth": 1, "heads": 2, "mlp_ratio": 4.0}
    again = Network(**{**values, "decoder": DecoderConfig(**values["decoder"])})
    assert again == SMALL
    assert hash(again) == hash(SMALL)


def test_encoder_alone_builds_no_autoencoder() -> None:
    with pytest.raises(ValueError, match="an encoder without a decoder, so it cannot reconstruct; give one that has"):
        TIMMS.build_autoencoder()


def test_image_size_that_the_patch_does_not_divide_is_refused_when_the_network_is_built() -> None:
    network = replace(SMALL, image_size=(12, 20))
    for build in (network.build_encoder, network.build_autoencoder, lambda: network.geometry):
        with pytest.raises(ValueError, match="12x20 is not a multiple of the patch size 6x6; use --image-size 12x18"):
            build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (0, 12)}, "the image_size of a network is 0; it must be at least 1"),
        ({"patch_size": 0}, "the patch_size of a network is 0"),
        ({"channels": 0, "mean": (), "std": ()}, "the channels of a network is 0"),
        ({"depth": -1}, "the depth of a network is -1"),
        ({"width": 25}, "an encoder of width 25 cannot be split among 3 heads; change either"),
        ({"mean": (0.5,)}, "mean has 1 values and std 2 for 2 channels; give one of each per channel"),
        ({"mean": (), "std": (1.0, 1.0)}, "mean has 0 values and std 2"),
        ({"mean": (float("nan"), 0.5)}, "give finite numbers, and for std positive ones"),
        ({"std": (0.0, 0.5)}, "give finite numbers, and for std positive ones"),
        ({"pixel_type": "auto"}, "pixel_type is 'auto'; use uint8 or uint16 or float32"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; use bicubic or bilinear"),
        ({"axis_order": "x-first"}, "axis_order is 'x-first'; use column-first or row-first"),
        ({"eval_resize": 11}, "eval_resize 11 is smaller than the short side of the images; make it at least 12"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
