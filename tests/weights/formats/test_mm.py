"""Files of MMSelfSup and MMPretrain: their key tables, their containers, what their meta says."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from openmae.core.masking import random_mask
from openmae.weights.building import load_autoencoder, load_encoder
from openmae.weights.formats import fair, mm
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import (
    assert_same_tensors,
    autoencoder_from,
    features_of,
    save_as_mm,
    stored,
    weights_of,
)

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CONFIG = """
model = dict(
    type='MAE',
    backbone=dict(type='MAEViT', arch=dict(embed_dims=192, num_layers=2, num_heads=6), patch_size=4),
    neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=32, decoder_num_heads=8),
    head=dict(type='MAEPretrainHead', norm_pix={norm_pix}, patch_size=4))
"""


def test_the_names_are_those_of_mmpretrain() -> None:
    names = set(mm.tensors_to(weights_of("autoencoder")))
    for name in (
        "backbone.cls_token",
        "backbone.pos_embed",
        "backbone.patch_embed.projection.weight",
        "backbone.layers.1.ln1.weight",
        "backbone.layers.0.ln2.bias",
        "backbone.layers.1.attn.qkv.bias",
        "backbone.layers.0.ffn.layers.0.0.weight",
        "backbone.layers.0.ffn.layers.1.bias",
        "backbone.ln1.weight",
        "neck.mask_token",
        "neck.decoder_pos_embed",
        "neck.decoder_embed.weight",
        "neck.decoder_blocks.0.ffn.layers.0.0.bias",
        "neck.decoder_blocks.0.ln1.weight",
        "neck.ln1.weight",
        "neck.decoder_pred.bias",
    ):
        assert name in names
    finetuned, probe = mm.tensors_to(weights_of("fine-tuned")), mm.tensors_to(weights_of("probe"))
    assert {"backbone.ln2.weight", "head.fc.bias"} <= set(finetuned)
    assert "backbone.ln1.weight" not in finetuned
    assert {"neck.bn.running_mean", "neck.bn.num_batches_tracked", "head.layers.head.weight"} <= set(probe)


def test_a_file_of_mmengine_reads_whole_and_predicts_the_same(tmp_path: Path) -> None:
    ours = weights_of("autoencoder")
    file = save_as_mm(tmp_path / "mae_vit-base.pth", mm.tensors_to(ours))
    assert_same_tensors(read_weights(file).tensors, ours.tensors)
    mask = random_mask(batch=2, patches=(4, 4), kept=4)
    with torch.no_grad():
        found = load_autoencoder(file).model(IMAGES, mask).prediction
        assert torch.equal(found, autoencoder_from(ours)(IMAGES, mask).prediction)
    assert read_weights(file).network.axis_order == "row-first"


@pytest.mark.parametrize("norm_pix", [True, False])
def test_heads_and_target_come_from_the_configuration_in_meta(tmp_path: Path, norm_pix: bool, said: list[str]) -> None:
    file = save_as_mm(
        tmp_path / "epoch_300.pth", mm.tensors_to(weights_of("autoencoder")), CONFIG.format(norm_pix=norm_pix)
    )
    network = read_weights(file).network
    assert network.decoder is not None
    assert (network.architecture.heads, network.decoder.heads) == (6, 8)
    assert network.normalise_target == norm_pix
    assert "meta does not say" not in said[-1]


def test_without_a_configuration_the_target_is_normalised_as_published_and_this_is_said() -> None:
    file = stored(mm.tensors_to(weights_of("autoencoder")))
    weights = mm.weights_from(file)
    assert weights.network.normalise_target
    assert any("meta does not say what it predicts" in note for note in weights.assumed)
    assert not mm.weights_from(file, normalised=False).network.normalise_target


def renamed(tensors: dict[str, Any], *changes: tuple[str, str]) -> dict[str, Any]:
    for old, new in changes:
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("fine-tuned", [("backbone.ln2", "backbone.fc_norm"), ("head.fc", "head.head")]),
        ("probe", [("neck.bn", "head.bn"), ("head.layers.head", "head.head")]),
        ("probe", [("head.layers.head", "head.fc")]),
        ("encoder", [("backbone.", "")]),
    ],
)
def test_older_classifiers_and_bare_backbones_read_the_same(kind: str, changes: list[tuple[str, str]]) -> None:
    ours = weights_of(kind)
    tensors = renamed(mm.tensors_to(ours), *changes)
    assert tensors.keys() != mm.tensors_to(ours).keys()
    assert mm.recognises(stored(tensors))
    assert_same_tensors(mm.weights_from(stored(tensors)).tensors, ours.tensors)


@pytest.mark.parametrize("kind", ["fine-tuned", "by class token", "probe"])
def test_a_classifier_gives_its_encoder(tmp_path: Path, kind: str) -> None:
    ours = weights_of(kind)
    file = save_as_mm(tmp_path / "vit.pth", mm.tensors_to(ours))
    assert torch.equal(load_encoder(file).forward_features(IMAGES), features_of(ours, IMAGES))


def test_the_buffers_of_the_preprocessor_are_left_out() -> None:
    ours = weights_of("autoencoder")
    buffers = {"data_preprocessor.mean": torch.ones(3, 1, 1), "data_preprocessor.std": torch.ones(3, 1, 1)}
    read = mm.weights_from(stored({**mm.tensors_to(ours), **buffers}))
    assert_same_tensors(read.tensors, ours.tensors)


def test_the_curves_that_mmengine_keeps_beside_the_weights_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their class is not installed where the file is read, and nothing of it is called."""
    module = ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.curve = np.arange(3.0)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ours = weights_of("encoder")
    content = {"state_dict": mm.tensors_to(ours), "message_hub": {"loss": HistoryBuffer()}, "best": np.float64(83.1)}
    torch.save(content, tmp_path / "epoch_1.pth")
    monkeypatch.undo()
    assert "mmengine" not in sys.modules
    assert_same_tensors(read_weights(tmp_path / "epoch_1.pth").tensors, ours.tensors)


def test_the_reference_and_mmpretrain_hold_the_same_tensors_under_other_names() -> None:
    ours = weights_of("autoencoder")
    through_mm = mm.weights_from(stored(mm.tensors_to(ours)), normalised=True)
    assert_same_tensors(fair.tensors_to(through_mm), fair.tensors_to(ours))


def test_keys_that_it_does_not_have_are_refused_by_name() -> None:
    tensors = {**mm.tensors_to(weights_of("encoder")), "momentum_encoder.0.weight": torch.ones(1)}
    with pytest.raises(
        ValueError, match=r"resembles the layout of MMPretrain \(backbone.*also has momentum_encoder.*looks like a MoCo"
    ):
        mm.weights_from(stored(tensors))
