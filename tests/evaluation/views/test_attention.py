"""Attention is shown as the network computes it, and the network stays as it was."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.encoder import encode_images
from openmae.evaluation.views import attention_maps

SIZES = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 0}
KINDS: dict[str, dict[str, object]] = {
    "class token": {},
    "registers": {"reg_tokens": 4},
    "no prefix": {"class_token": False, "global_pool": "avg"},
    "registers alone": {"class_token": False, "reg_tokens": 2, "global_pool": "avg"},
    "normed queries": {"qk_norm": True},
}


def build(**options: object) -> VisionTransformer:
    torch.manual_seed(0)
    vit: VisionTransformer = timm.create_model("vit_tiny_patch16_224", **{**SIZES, **options}).eval()
    for parameter in vit.parameters():  # timm's own are so small that all attention is alike
        nn.init.normal_(parameter, std=0.3)
    return vit


def images() -> Tensor:
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def as_computed(vit: VisionTransformer, block: int) -> Tensor:
    """The attention matrices [B, heads, T, T] of a block, as timm's own unfused code hands them to its dropout."""
    seen: list[Tensor] = []
    attention = vit.blocks[block].attn
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        encode_images(vit, images())
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("block", [0, -1])
def test_maps_are_the_attention_that_timm_computes(options: dict[str, object], fused: bool, block: int) -> None:
    vit = build(**options)
    for part in vit.blocks:
        part.attn.fused_attn = fused
    maps = attention_maps(vit, images(), block)
    assert maps.shape == (2, 3, 4, 6)
    expected_BhTT = as_computed(vit, block)
    prefix = vit.num_prefix_tokens
    rows = expected_BhTT[:, :, 0] if vit.cls_token is not None else expected_BhTT[:, :, prefix:].mean(dim=2)
    assert torch.allclose(maps.flatten(2), rows[..., prefix:], atol=1e-6)
    assert maps.std() > 1e-3
    assert maps.flatten(2).sum(-1).max() <= 1 + 1e-5


def test_nothing_is_left_behind() -> None:
    vit = build()
    before = [(name, list(part.__dict__), len(part._forward_hooks)) for name, part in vit.named_modules()]
    attention_maps(vit, images())
    with pytest.raises(ValueError, match="a signal of"):
        attention_maps(vit, images()[..., :-1])
    assert [(name, list(part.__dict__), len(part._forward_hooks)) for name, part in vit.named_modules()] == before


@pytest.mark.parametrize(
    ("vit", "block", "message"),
    [
        (build, 3, r"no block 3, but 3; give one of 0 … 2"),
        (build, -4, r"no block -4, but 3"),
        (lambda: timm.create_model("test_vit4", num_classes=0, attn_layer="diff"), -1, r"no plain attention"),
    ],
)
def test_what_cannot_be_shown_is_refused(vit: Callable[[], VisionTransformer], block: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_maps(vit(), images(), block)
