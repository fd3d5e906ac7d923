"""Files of the reference: its key table, its containers, its traps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from openmae.core.masking import random_mask
from openmae.core.positions import sincos_positions
from openmae.weights.building import load_autoencoder, load_encoder
from openmae.weights.formats import fair
from openmae.weights.reading import read_weights
from openmae.weights.starting import start_from
from tests.weights.formats.samples import (
    NETWORK,
    assert_same_tensors,
    autoencoder_from,
    features_of,
    save_as_fair,
    stored,
    weights_of,
)

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_names_are_those_of_the_reference() -> None:
    names = set(fair.tensors_to(weights_of("autoencoder")))
    for name in (
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.1.attn.qkv.bias",
        "blocks.0.mlp.fc2.weight",
        "norm.weight",
        "mask_token",
        "decoder_pos_embed",
        "decoder_embed.weight",
        "decoder_blocks.0.norm1.weight",
        "decoder_blocks.0.attn.proj.bias",
        "decoder_norm.bias",
        "decoder_pred.weight",
    ):
        assert name in names
    assert not any(name.startswith(("encoder.", "decoder.")) for name in names)


def test_a_run_of_the_reference_reads_whole_beside_its_optimizer_and_options(tmp_path: Path) -> None:
    ours = weights_of("autoencoder")
    file = save_as_fair(tmp_path / "checkpoint-799.pth", fair.tensors_to(ours), norm_pix_loss=False, input_size=16)
    read = read_weights(file)
    assert_same_tensors(read.tensors, ours.tensors)
    assert not read.network.normalise_target
    model, network, mask_ratio = load_autoencoder(file)
    mask = random_mask(batch=2, patches=(4, 4), kept=4)
    with torch.no_grad():
        expected = autoencoder_from(ours)(IMAGES, mask)
        assert torch.equal(model(IMAGES, mask).prediction, expected.prediction)
    assert (network.image_size, mask_ratio) == ((16, 16), 0.75)


@pytest.mark.parametrize(
    ("name", "options", "chosen", "normalised", "note"),
    [
        ("mae_visualize_vit_base.pth", {}, None, False, "by its name, it predicts raw pixels"),
        ("mae_pretrain_vit_base_full.pth", {}, None, True, "by its name, it predicts pixels normalised per patch"),
        ("mine.pth", {}, None, True, "put 'visualize' into its name if they are raw"),
        ("mine.pth", {}, False, False, None),
        ("mae_visualize_vit_base.pth", {}, True, True, None),
        ("mae_visualize_vit_base.pth", {"norm_pix_loss": True}, None, True, None),
        ("mine.pth", {"norm_pix_loss": False}, None, False, None),
        ("mine.pth", {"norm_pix_loss": "yes"}, None, True, "neither its name nor its args"),
    ],
)
def test_the_target_follows_the_choice_then_the_options_then_the_name_and_is_said(
    tmp_path: Path,
    said: list[str],
    name: str,
    options: dict[str, object],
    chosen: bool | None,
    normalised: bool,
    note: str | None,
) -> None:
    file = save_as_fair(tmp_path / name, fair.tensors_to(weights_of("autoencoder")), **options)
    assert read_weights(file, normalised=chosen).network.normalise_target == normalised
    assert ("pixels normalised per patch" in said[-1].splitlines()[0]) == normalised
    if note is None:
        assert "by its name" not in said[-1]
        assert "say what it predicts" not in said[-1]
    else:
        assert note in said[-1]


def test_the_published_encoder_alone_reads_and_cannot_reconstruct(tmp_path: Path) -> None:
    ours = weights_of("encoder")
    torch.save({"model": dict(ours.tensors)}, tmp_path / "mae_pretrain_vit_base.pth")
    assert read_weights(tmp_path / "mae_pretrain_vit_base.pth").layout == "facebookresearch/mae"
    assert torch.equal(
        load_encoder(tmp_path / "mae_pretrain_vit_base.pth").forward_features(IMAGES), features_of(ours, IMAGES)
    )
    with pytest.raises(ValueError, match=r"without its decoder.*fair's files called full and visualize"):
        load_autoencoder(tmp_path / "mae_pretrain_vit_base.pth")


def test_a_fine_tuned_file_has_a_norm_after_pooling_and_none_before(tmp_path: Path) -> None:
    ours = weights_of("fine-tuned")
    assert "norm.weight" not in ours.tensors
    file = save_as_fair(tmp_path / "mae_finetuned_vit_base.pth", fair.tensors_to(ours), nb_classes=7)
    encoder = load_encoder(file)
    assert isinstance(encoder.norm, nn.Identity)
    assert torch.equal(encoder.fc_norm.weight, ours.tensors["fc_norm.weight"])
    weights = read_weights(file)
    vit = weights.network.build_encoder(num_classes=7, global_pool="avg").eval()
    vit.load_state_dict(dict(weights.tensors), strict=True)
    with torch.no_grad():
        tokens = encoder.forward_features(IMAGES)
        by_hand = nn.functional.linear(
            encoder.fc_norm(tokens[:, 1:].mean(1)), ours.tensors["head.weight"], ours.tensors["head.bias"]
        )
        torch.testing.assert_close(vit(IMAGES), by_hand)


def test_a_linear_probe_keeps_its_batch_normalisation_and_gives_its_encoder(tmp_path: Path) -> None:
    ours = weights_of("probe")
    file = save_as_fair(tmp_path / "linear.pth", fair.tensors_to(ours))
    assert_same_tensors(read_weights(file).tensors, ours.tensors)
    assert torch.equal(load_encoder(file).forward_features(IMAGES), features_of(ours, IMAGES))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_removed(tmp_path: Path, prefix: str) -> None:
    ours = weights_of("autoencoder")
    wrapped = {prefix + name: tensor for name, tensor in fair.tensors_to(ours).items()}
    assert_same_tensors(read_weights(save_as_fair(tmp_path / "full.pth", wrapped)).tensors, ours.tensors)


@pytest.mark.parametrize("order", ["column-first", "row-first"])
def test_stored_position_tables_are_copied_and_their_axis_order_is_noticed(tmp_path: Path, order: str) -> None:
    tensors = fair.tensors_to(weights_of("autoencoder"))
    table = sincos_positions(192, (4, 4), prefix_tokens=1, axis_order=order)  # type: ignore[arg-type]
    decoder_table = sincos_positions(32, (4, 4), prefix_tokens=1, axis_order=order)  # type: ignore[arg-type]
    tensors |= {"pos_embed": table, "decoder_pos_embed": decoder_table}
    file = save_as_fair(tmp_path / "full.pth", tensors)
    model = load_autoencoder(file).model
    assert torch.equal(model.encoder.pos_embed, table)
    assert torch.equal(model.decoder.pos_embed, decoder_table)
    assert read_weights(file).network.axis_order == order


def test_random_position_tables_are_copied_into_both_halves(tmp_path: Path) -> None:
    ours = weights_of("autoencoder")
    model = load_autoencoder(save_as_fair(tmp_path / "full.pth", fair.tensors_to(ours))).model
    assert torch.equal(model.encoder.pos_embed, ours.tensors["encoder.pos_embed"])
    assert torch.equal(model.decoder.pos_embed, ours.tensors["decoder.pos_embed"])


def test_training_starts_from_a_file_of_the_reference_and_resizes_positions_only_for_another_grid(
    tmp_path: Path,
) -> None:
    ours = weights_of("autoencoder")
    weights = read_weights(save_as_fair(tmp_path / "full.pth", fair.tensors_to(ours)))
    same = weights.network.build_autoencoder()
    start_from(same.encoder, weights)
    assert torch.equal(same.encoder.pos_embed, ours.tensors["encoder.pos_embed"])
    larger = replace(NETWORK, image_size=(24, 32), eval_resize=24).build_encoder(num_classes=5, global_pool="avg")
    start_from(larger, weights)
    assert larger.pos_embed.shape == (1, 1 + 6 * 8, 192)
    assert torch.equal(larger.pos_embed[:, 0], ours.tensors["encoder.pos_embed"][:, 0])
    assert torch.equal(larger.blocks[1].attn.qkv.weight, ours.tensors["encoder.blocks.1.attn.qkv.weight"])


def test_a_file_of_before_the_zip_format_reads_the_same(tmp_path: Path) -> None:
    ours = weights_of("encoder")
    torch.save({"model": dict(ours.tensors)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same_tensors(read_weights(tmp_path / "old.pth").tensors, ours.tensors)


def test_heads_that_tensors_do_not_show_come_from_a_config_beside_the_file(tmp_path: Path) -> None:
    tensors = fair.tensors_to(weights_of("autoencoder"))
    config = {"model_args": {"num_heads": 6, "decoder_num_heads": 8}}
    network = fair.weights_from(stored(tensors, config=config), normalised=True).network
    assert network.decoder is not None
    assert (network.architecture.heads, network.decoder.heads) == (6, 8)
    save_as_fair(tmp_path / "full.pth", tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_weights(tmp_path / "full.pth").network == network


def test_half_a_decoder_is_refused() -> None:
    tensors = fair.tensors_to(weights_of("autoencoder"))
    del tensors["decoder_embed.weight"]
    with pytest.raises(ValueError, match=r"lacks decoder\.embed\.weight"):
        fair.weights_from(stored(tensors))
    tensors = fair.tensors_to(weights_of("autoencoder"))
    missing = {name: tensor for name, tensor in tensors.items() if name != "mask_token"}
    weights = fair.weights_from(stored(missing), normalised=True)
    with pytest.raises(ValueError, match=r"it lacks decoder\.mask_token;"):
        autoencoder_from(weights)
