"""Any timm VisionTransformer on the visible patches only."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.encoder import (
    create_encoder,
    encode,
    encode_images,
    encoder_geometry,
    fix_positions,
    initialise,
    require_plain_vit,
)
from openmae.core.masking import Mask, random_mask
from openmae.core.positions import AxisOrder, sincos_positions


def build(
    *,
    image: tuple[int, int] = (12, 12),
    patch: int | tuple[int, int] = 4,
    channels: int = 3,
    width: int = 16,
    **options: Any,
) -> VisionTransformer:
    """A small timm model in which no parameter has a value that hides a mistake, such as 0 or 1."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=image,
        patch_size=patch,
        in_chans=channels,
        embed_dim=width,
        depth=2,
        num_heads=2,
        num_classes=0,
        **options,
    )
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_(std=0.3)
    return vit.eval()


def some_images(vit: VisionTransformer, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, vit.in_chans, *encoder_geometry(vit).size, generator=torch.Generator().manual_seed(1))


def some_mask(vit: VisionTransformer, *, batch: int = 2, kept: int = 4) -> Mask:
    grid = encoder_geometry(vit).grid
    return random_mask(batch=batch, patches=grid, kept=kept, generator=torch.Generator().manual_seed(2))


VARIANTS: dict[str, dict[str, Any]] = {
    "class token": {},
    "registers": {"reg_tokens": 4},
    "registers without positions": {"reg_tokens": 4, "no_embed_class": True},
    "class token without position": {"no_embed_class": True},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "no class token, final norm": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "registers only": {"class_token": False, "reg_tokens": 2, "global_pool": "avg"},
    "no positions": {"pos_embed": "none"},
    "pre-norm and patch norm": {"pre_norm": True, "embed_norm_layer": nn.LayerNorm},
    "layer scale and query-key norm": {"init_values": 0.1, "qk_norm": True},
    "any size": {"dynamic_img_size": True},
    "wide image": {"image": (8, 20)},
    "tall image": {"image": (20, 8)},
    "1 channel": {"channels": 1},
    "5 channels": {"channels": 5},
    "patch 5": {"image": (15, 10), "patch": 5},
    "patch 7": {"image": (14, 21), "patch": 7, "channels": 1},
    "patch 1": {"image": (3, 4), "patch": 1},
    "patch not square": {"image": (12, 12), "patch": (4, 6)},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_encoding_without_a_mask_equals_timm(options: dict[str, Any]) -> None:
    vit = build(**options).double()
    images = some_images(vit).double()
    with torch.no_grad():
        torch.testing.assert_close(encode_images(vit, images), vit.forward_features(images), rtol=0, atol=1e-12)


def test_dropout_while_training_is_that_of_timm() -> None:
    vit = build(pos_drop_rate=0.3, proj_drop_rate=0.2, drop_path_rate=0.2).double().train()
    images = some_images(vit, batch=4).double()
    torch.manual_seed(5)
    ours = encode_images(vit, images)
    torch.manual_seed(5)
    theirs = vit.forward_features(images)
    assert not torch.allclose(ours, vit.eval().forward_features(images), atol=1e-2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_masked_encoding_equals_timm_layers_on_the_kept_tokens(options: dict[str, Any]) -> None:
    vit = build(**options).double()
    images, mask = some_images(vit).double(), some_mask(vit, kept=3)
    prefix = vit.num_prefix_tokens
    with torch.no_grad():
        every = vit._pos_embed(vit.patch_embed(images)).reshape(2, -1, 16)
        rows = [torch.cat([every[b, :prefix], every[b, prefix + mask.kept[b]]]) for b in range(2)]
        expected = vit.norm(vit.blocks(vit.norm_pre(torch.stack(rows))))
        found = encode(vit, encoder_geometry(vit).patchify(images), mask)
    assert found.shape == (2, prefix + 3, 16)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_hidden_pixels_do_not_reach_the_encoding(value: float) -> None:
    vit = build()
    images, mask = some_images(vit), some_mask(vit)
    geometry = encoder_geometry(vit)
    patches = geometry.patchify(images)
    hidden = mask.as_grid().flatten(1)
    changed = patches.masked_fill(hidden.unsqueeze(-1), value)
    assert not torch.equal(geometry.unpatchify(changed), images)
    with torch.no_grad():
        assert torch.equal(encode(vit, changed, mask), encode(vit, patches, mask))


def test_visible_pixels_do_reach_the_encoding() -> None:
    vit = build()
    images, mask = some_images(vit), some_mask(vit)
    patches = encoder_geometry(vit).patchify(images)
    changed = patches.clone()
    changed[0, mask.kept[0, 2]] += 1
    with torch.no_grad():
        before, after = encode(vit, patches, mask), encode(vit, changed, mask)
    assert ((before[0] - after[0]).abs().amax(dim=-1) > 1e-4).all()
    assert torch.equal(before[1], after[1])


def test_gradient_checkpointing_is_honoured_and_keeps_the_gradient() -> None:
    vit = build()
    images, mask = some_images(vit), some_mask(vit)
    patches = encoder_geometry(vit).patchify(images)
    calls: list[str] = []
    vit.blocks[0].register_forward_pre_hook(lambda *_: calls.append("block"))

    gradients: list[list[Tensor]] = []
    for enable, expected_calls in ((False, 1), (True, 2)):
        calls.clear()
        vit.set_grad_checkpointing(enable)
        parameters = [p for name, p in vit.named_parameters() if not name.startswith("head")]
        loss = encode(vit, patches, mask).square().mean()
        gradients.append(list(torch.autograd.grad(loss, parameters)))
        assert len(calls) == expected_calls  # the second call recomputes the activations in the backward pass
    torch.testing.assert_close(gradients[0], gradients[1])


def test_geometry_is_vertical_before_horizontal() -> None:
    geometry = encoder_geometry(build(image=(8, 30), patch=(4, 6)))
    assert (geometry.size, geometry.patch, geometry.grid) == ((8, 30), (4, 6), (2, 5))


def test_initialisation_follows_the_reference() -> None:
    vit = build(width=256, reg_tokens=2, channels=5)
    initialise(vit)
    assert vit.reg_token is not None
    for name, part in vit.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            outputs, inputs = part.weight.flatten(1).shape
            bound = (6 / (inputs + outputs)) ** 0.5  # Xavier uniform; the convolution counts as a Linear [D, P]
            assert 0.99 * bound < part.weight.abs().max().item() <= bound, name
            assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02), name
            assert part.bias is not None
            assert not part.bias.any(), name
        elif isinstance(part, nn.LayerNorm):
            assert torch.equal(part.weight, torch.ones(256)), name
            assert torch.equal(part.bias, torch.zeros(256)), name
    for token in (vit.cls_token, vit.reg_token):
        assert token is not None
        assert token.std().item() == pytest.approx(0.02, rel=0.15)
        assert abs(token.mean().item()) < 0.005


def test_mmselfsup_draws_the_biases_of_the_mlps_and_only_those() -> None:
    vit = build(width=64)
    initialise(vit, mlp_bias_std=1e-6)
    for name, part in vit.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            assert part.bias is not None
            if ".mlp." in name:
                assert part.bias.std().item() == pytest.approx(1e-6, rel=0.4), name
            else:
                assert not part.bias.any(), name


@pytest.mark.parametrize("order", ["column-first", "row-first"])
@pytest.mark.parametrize(
    ("options", "prefix"),
    [({}, 1), ({"reg_tokens": 4}, 5), ({"no_embed_class": True}, 0), ({"class_token": False, "global_pool": "avg"}, 0)],
)
def test_fixed_positions_are_the_frozen_table(options: dict[str, Any], prefix: int, order: AxisOrder) -> None:
    vit = build(image=(8, 20), **options)
    fix_positions(vit, order)
    assert vit.pos_embed is not None
    assert not vit.pos_embed.requires_grad
    assert torch.equal(vit.pos_embed, sincos_positions(16, (2, 5), prefix_tokens=prefix, axis_order=order))


def test_fixed_positions_keep_the_precision_of_the_model() -> None:
    vit = build().double()
    fix_positions(vit, "column-first")
    assert vit.pos_embed is not None
    assert vit.pos_embed.dtype == torch.float64


def test_model_without_positions_cannot_have_them_fixed() -> None:
    with pytest.raises(ValueError, match="no absolute position table; use a vit_"):
        fix_positions(build(pos_embed="none"), "column-first")


def test_created_encoder_has_the_sizes_asked_for_and_no_classifier() -> None:
    vit = create_encoder(
        "vit_tiny_patch16_224",
        image_size=(24, 36),
        patch_size=6,
        channels=5,
        width=32,
        depth=3,
        heads=4,
        drop_path_rate=0.5,
    )
    geometry = encoder_geometry(vit)
    assert (geometry.size, geometry.patch, geometry.grid) == ((24, 36), (6, 6), (4, 6))
    assert tuple(vit.patch_embed.proj.weight.shape) == (32, 5, 6, 6)
    assert len(vit.blocks) == 3
    assert {block.attn.num_heads for block in vit.blocks} == {4}
    assert vit.blocks[-1].drop_path1.drop_prob == 0.5
    assert isinstance(vit.head, nn.Identity)


def test_created_encoder_is_as_timm_defines_it_unless_told() -> None:
    with torch.device("meta"):
        vit = create_encoder("vit_tiny_patch16_224", num_classes=7)
    geometry = encoder_geometry(vit)
    assert (geometry.size, geometry.patch, geometry.grid) == ((224, 224), (16, 16), (14, 14))
    assert (vit.embed_dim, len(vit.blocks), vit.in_chans, vit.head.out_features) == (192, 12, 3, 7)


@pytest.mark.parametrize(
    ("name", "near"),
    [("vit_base_patch16_225", "did you mean .*vit_base_patch16_224"), ("zzzzzz", "timm.list_models")],
)
def test_unknown_model_name_is_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"timm has no model called '{name}'; {near}"):
        create_encoder(name)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": (250, 224)}, "250x224 is not a multiple of the patch size 16x16; use --image-size 256x224"),
        ({"image_size": (8, 8)}, "8x8 is not a multiple of the patch size 16x16; use --image-size 16x16"),
        ({"patch_size": 15}, "224x224 is not a multiple of the patch size 15x15; use --image-size 225x225"),
        ({"patch_size": 15, "image_size": (32, 32)}, "32x32 is not a multiple of the patch size 15x15"),
    ],
)
def test_image_size_that_the_patch_does_not_divide_is_refused(sizes: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_encoder("vit_tiny_patch16_224", **sizes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "ResNet is not a timm VisionTransformer.*use a vit_"),
        ("vit_relpos_small_patch16_224", "VisionTransformerRelPos is not a timm VisionTransformer"),
        ("vit_tiny_r_s16_p8_224", "a convolutional stem.*use a vit_"),
        ("vit_small_r26_s32_224", "a convolutional stem.*use a vit_"),
        ("deit_tiny_distilled_patch16_224", "VisionTransformerDistilled has prefix tokens other than"),
    ],
)
def test_model_whose_patches_cannot_be_hidden_is_refused(name: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_encoder(name)


def test_model_whose_patches_overlap_is_refused() -> None:
    vit = build()
    vit.patch_embed.proj = nn.Conv2d(3, 16, kernel_size=6, stride=4, padding=1)
    with pytest.raises(ValueError, match="patches overlap"):
        require_plain_vit(vit)


def test_model_that_drops_patches_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"patch_drop_rate hides patches.*leave it at 0"):
        require_plain_vit(build(patch_drop_rate=0.5))
