"""Files that timm writes, read and compared with what timm computes."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm as installed
import torch
from safetensors.torch import save_file
from timm.models._hub import save_for_hf
from torch import Tensor

from openmae.core.encoder import encode_images
from openmae.weights.building import load_encoder
from openmae.weights.formats import timm
from openmae.weights.reading import read_weights
from openmae.weights.starting import start_from
from tests.weights.formats.samples import NETWORK, assert_same_tensors, features_of, stored, weights_of

TINY = {"img_size": 32, "patch_size": 8, "depth": 1}
TOWERS = {
    # A tower of each family whose class is ours, by timm's name.
    "plain": ("vit_tiny_patch16_224", {}),
    "published": ("vit_base_patch16_224", {"embed_dim": 24, "num_heads": 2}),
    "DeiT": ("deit_tiny_patch16_224", {}),
    "DINOv2": ("vit_small_patch14_dinov2", {"embed_dim": 24, "num_heads": 2}),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {"embed_dim": 24, "num_heads": 2}),
    "CLIP": ("vit_base_patch32_clip_224", {"embed_dim": 24, "num_heads": 2}),
    "CLIP of OpenAI": ("vit_base_patch32_clip_quickgelu_224", {"embed_dim": 24, "num_heads": 2}),
    "SigLIP": ("vit_base_patch16_siglip_224", {"embed_dim": 24, "num_heads": 2}),
    "SigLIP by mean": ("vit_base_patch16_siglip_gap_224", {"embed_dim": 24, "num_heads": 2}),
    "registers, no class token": ("vit_base_patch16_reg4_gap_256", {"embed_dim": 24, "num_heads": 2}),
}


def model_of(name: str, **changes: Any) -> Any:
    """A small network of a timm architecture with random weights, nowhere zero."""
    model = installed.create_model(name, **{**TINY, "num_classes": 3, **changes})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + ("norm" in key))
    return model.eval()


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("family", TOWERS)
def test_a_folder_of_timm_gives_the_same_features(tmp_path: Path, family: str, safe: bool) -> None:
    name, changes = TOWERS[family]
    theirs = model_of(name, **changes)
    save_for_hf(theirs, tmp_path, model_args={**TINY, **changes}, safe_serialization=safe)
    weights = read_weights(tmp_path)
    assert (weights.layout, weights.network.backbone) == ("timm", name)
    assert_same_tensors(weights.tensors, theirs.state_dict())
    ours = load_encoder(tmp_path)
    with torch.no_grad():
        expected = theirs.forward_features(images())
        torch.testing.assert_close(ours.forward_features(images()), expected, rtol=0, atol=0)
        torch.testing.assert_close(encode_images(ours, images()), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("family", TOWERS)
def test_training_starts_from_a_tower_at_another_size(tmp_path: Path, family: str) -> None:
    name, changes = TOWERS[family]
    theirs = model_of(name, **changes)
    save_for_hf(theirs, tmp_path, model_args={**TINY, **changes}, safe_serialization=True)
    weights = read_weights(tmp_path)
    vit = replace(weights.network, image_size=(48, 48), eval_resize=48).build_encoder()
    start_from(vit, weights)
    assert torch.equal(vit.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)
    assert vit.pos_embed.shape[1] == theirs.pos_embed.shape[1] + 36 - 16


def test_a_classifier_by_mean_starts_from_a_tower_that_pools_by_attention(tmp_path: Path) -> None:
    name, changes = TOWERS["SigLIP"]
    theirs = model_of(name, **changes)
    save_for_hf(theirs, tmp_path, model_args={**TINY, **changes}, safe_serialization=True)
    weights = read_weights(tmp_path)
    assert any(key.startswith("attn_pool.") for key in weights.tensors)
    vit = weights.network.build_encoder(num_classes=5, global_pool="avg")
    start_from(vit, weights)
    assert torch.equal(vit.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)


def test_the_transform_comes_from_pretrained_cfg(tmp_path: Path) -> None:
    theirs = model_of("vit_tiny_patch16_224")
    save_for_hf(theirs, tmp_path, model_args=TINY, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear"}
    config["pretrained_cfg"] |= {"crop_pct": 0.8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = read_weights(tmp_path).network
    assert (network.mean, network.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert (network.interpolation, network.eval_resize) == ("bilinear", 40)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_a_plain_network_needs_no_config_and_what_is_assumed_is_said(
    tmp_path: Path, suffix: str, said: list[str]
) -> None:
    theirs = model_of("vit_tiny_patch16_224", num_classes=0)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(theirs.state_dict(), file)
    else:
        torch.save(theirs.state_dict(), file)
    assert read_weights(file).network.backbone == "vit_tiny_patch16_224"
    with torch.no_grad():
        assert torch.equal(load_encoder(file).forward_features(images()), theirs.forward_features(images()))
    assert "does not say how pixels are normalised: ImageNet's mean and std" in said[-1]


def test_a_checkpoint_of_timms_training_script_names_its_architecture_and_its_average_counts(
    tmp_path: Path, said: list[str]
) -> None:
    theirs = model_of("vit_small_patch14_dinov2")
    raw = {key: tensor + 1 for key, tensor in theirs.state_dict().items()}
    content = {"epoch": 3, "arch": "vit_small_patch14_dinov2", "state_dict": raw, "args": Namespace(lr=0.1)}
    torch.save({**content, "state_dict_ema": theirs.state_dict()}, tmp_path / "model_best.pth")
    read = read_weights(tmp_path / "model_best.pth")
    assert read.network.backbone == "vit_small_patch14_dinov2"
    assert_same_tensors(read.tensors, theirs.state_dict())
    assert "its state_dict_ema is used, not its state_dict" in said[-1]


def test_a_checkpoint_of_dino_gives_its_teacher_without_the_projection(tmp_path: Path, said: list[str]) -> None:
    ours = weights_of("encoder")
    teacher = {f"backbone.{name}": tensor for name, tensor in ours.tensors.items()}
    teacher |= {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2, 1)}
    student = {f"module.{name}": tensor * 2 for name, tensor in teacher.items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 1}, tmp_path / "checkpoint.pth")
    assert_same_tensors(read_weights(tmp_path / "checkpoint.pth").tensors, ours.tensors)
    assert "its teacher is used, not its student" in said[-1]


def test_the_mask_token_of_dinov2_is_left_out() -> None:
    ours = weights_of("encoder")
    read = timm.weights_from(stored({**ours.tensors, "mask_token": torch.ones(1, 192)}))
    assert_same_tensors(read.tensors, ours.tensors)


@pytest.mark.parametrize("size", ["base_patch16", "large_patch16", "huge_patch14"])
def test_the_published_encoders_in_timm_are_known_by_their_shapes(size: str) -> None:
    with torch.device("meta"):
        theirs = installed.create_model(f"vit_{size}_224.mae", pretrained=False)
    weights = timm.weights_from(stored(theirs.state_dict()))
    assert weights.network.backbone == f"vit_{size}_224"
    assert (weights.network.image_size, weights.network.eval_resize) == ((224, 224), 256)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["blocks.0.ls1.gamma"], r"also has blocks\.0\.ls1\.gamma, which looks like a DINOv2, CLIP or SigLIP"),
        (["dist_token"], "which looks like a distilled DeiT"),
        (["blocks.0.gamma_1"], "which looks like a BEiT"),
        (["something"], "also has something, and the tensors do not show which architecture it is; put it into a"),
    ],
)
def test_a_network_that_is_not_plain_needs_a_config_and_is_named(keys: list[str], message: str) -> None:
    tensors = {**weights_of("encoder").tensors, **{key: torch.ones(1) for key in keys}}
    with pytest.raises(ValueError, match=message):
        timm.weights_from(stored(tensors))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet50"}, "ResNet is not a timm VisionTransformer"),
        ({"architecture": "vit_tiny_patch61_224"}, "timm has no model called 'vit_tiny_patch61_224'; did you mean"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"qk_norm": True}}, "was made with qk_norm"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 64}}, "positions for 16 patches, but"),
        ({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": "grey"}}, "mean is 'grey' in the conf"),
        ({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"crop_pct": 0}}, "crop_pct is '0' in the conf"),
        ({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"crop_pct": "x"}}, "crop_pct is 'x' in the conf"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.weights_from(stored(weights_of("encoder").tensors, config=config))


def test_tensors_that_the_named_architecture_does_not_have_are_refused() -> None:
    tensors = {**weights_of("encoder").tensors, "blocks.0.ls1.gamma": torch.ones(192)}
    weights = timm.weights_from(stored(tensors, config={"architecture": "vit_tiny_patch16_224"}))
    with pytest.raises(ValueError, match=r"is of another network: it has in addition blocks\.0\.ls1\.gamma"):
        features_of(weights, images(16))


def test_a_width_of_no_published_family_needs_its_heads() -> None:
    theirs = model_of("vit_tiny_patch16_224", embed_dim=24, num_heads=2)
    tensors = theirs.state_dict()
    with pytest.raises(ValueError, match=r"is 24 wide, and tensors do not show how many attention heads.*num_heads"):
        timm.weights_from(stored(tensors))
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 2}}
    weights = timm.weights_from(stored(tensors, config=config))
    with torch.no_grad():
        assert torch.equal(features_of(weights, images()), theirs.forward_features(images()))


def test_a_grid_that_is_no_square_needs_its_size(tmp_path: Path) -> None:
    theirs = model_of("vit_tiny_patch16_224", img_size=(16, 48))
    with pytest.raises(ValueError, match=r"positions for 12 patches, which is no square; write a config\.json"):
        timm.weights_from(stored(theirs.state_dict()))
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": [16, 48]}}
    assert timm.weights_from(stored(theirs.state_dict(), config=config)).network.image_size == (16, 48)


def test_what_timm_made_of_ours_loads_into_timm_strictly() -> None:
    for kind, pool, classes in (("encoder", "token", 0), ("fine-tuned", "avg", 7), ("by class token", "token", 7)):
        theirs = installed.create_model(
            NETWORK.backbone, img_size=16, patch_size=4, depth=2, num_classes=classes, global_pool=pool
        )
        theirs.load_state_dict(timm.tensors_to(weights_of(kind)), strict=True)
