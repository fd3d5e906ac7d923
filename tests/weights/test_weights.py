import json
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openmae.checkpoints.checkpoint import MODEL, list_checkpoints
from openmae.checkpoints.names import ENCODER
from openmae.checkpoints.tensor_files import write_tensors
from openmae.core.model import MaskedAutoencoder
from openmae.core.positions import resize_positions, sincos_positions
from openmae.recipes import FinetuneRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.recipes.values import ImageSize
from openmae.training.pretraining import run_pretraining
from openmae.weights.building import load_autoencoder, load_encoder, untrained_encoder, untrained_twin
from openmae.weights.comparing import require_architecture
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights
from openmae.weights.starting import start_from
from openmae.weights.strict import load_strictly
from openmae.weights.weights import Weights


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[0]


@pytest.fixture
def copied_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def finetune_recipe(tiny_recipe: PretrainRecipe, **changes: Any) -> FinetuneRecipe:
    recipe = find_recipe("fashion-mnist", "finetune")
    assert isinstance(recipe, FinetuneRecipe)
    return replace(
        recipe,
        data=tiny_recipe.data,
        width=tiny_recipe.width,
        depth=tiny_recipe.depth,
        heads=tiny_recipe.heads,
        **changes,
    )


def assert_same(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    own = module.state_dict()
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[name], tensors[name]) for name in own)


def test_a_run_its_checkpoint_and_its_files_give_the_same_encoder(tiny_run: Path) -> None:
    expected = load_file(tiny_run / ENCODER)
    for spec in (tiny_run, str(tiny_run), newest(tiny_run), newest(tiny_run) / MODEL, tiny_run / ENCODER):
        assert_same(load_encoder(spec), expected)


def test_a_loaded_encoder_is_a_plain_timm_model_in_eval_mode(tiny_run: Path) -> None:
    encoder = load_encoder(tiny_run)
    assert type(encoder).__module__ == "timm.models.vision_transformer"
    assert not encoder.training
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 32)


def test_the_recipe_comes_with_the_weights(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    weights = read_weights(tiny_run)
    assert weights.recipe == replace(tiny_recipe, pixel_type="uint8")
    assert weights.file == tiny_run / ENCODER


def test_the_whole_autoencoder_comes_from_the_checkpoint(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    for spec in (tiny_run, newest(tiny_run), newest(tiny_run) / MODEL):
        model, network, mask_ratio = load_autoencoder(spec)
        assert (network, mask_ratio) == (network_of(tiny_recipe), tiny_recipe.mask_ratio)
        assert not model.training
        assert_same(model, load_file(newest(tiny_run) / MODEL))


def test_an_unfinished_run_gives_its_newest_checkpoint(copied_run: Path) -> None:
    (copied_run / ENCODER).unlink()
    assert read_weights(copied_run).file == newest(copied_run) / MODEL


def test_the_average_is_preferred_to_the_last_weights(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(tiny_recipe, ema_decay=0.5, epochs=1)
    run_pretraining(recipe, tmp_path / "run")
    raw = load_file(newest(tmp_path / "run") / MODEL)
    for spec in (tmp_path / "run", newest(tmp_path / "run")):
        encoder = load_encoder(spec)
        assert_same(encoder, load_file(tmp_path / "run" / ENCODER))
        assert not torch.equal(encoder.blocks[0].attn.qkv.weight, raw["encoder.blocks.0.attn.qkv.weight"])


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no weights at .*nowhere; give a run folder"):
        read_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pkl", "weights"])
def test_files_of_other_kinds_are_refused_unread(tmp_path: Path, name: str) -> None:
    torch.save({"model": {}}, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not a \.safetensors file; give one, a file of torch"):
        read_weights(tmp_path / name)


def test_safetensors_of_others_are_refused_when_no_layout_has_their_keys(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"other\.safetensors does not say which network it is for.*\(weight\)"):
        read_weights(tmp_path / "other.safetensors")


def huge_header(claimed: int) -> bytes:
    return struct.pack("<Q", claimed) + b'{"__metadata__":{}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"no safetensors at all, just words" * 10,
        bytes(1000),
        huge_header(2**60),
        huge_header(2**64 - 1),
        struct.pack("<Q", 40) + json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode(),
    ],
)
def test_bytes_that_are_no_safetensors_are_refused_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file.safetensors"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"file\.safetensors cannot be read as safetensors \(.+\); check that it was"):
        read_weights(file)


def test_a_truncated_file_is_refused(copied_run: Path) -> None:
    file = copied_run / ENCODER
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"encoder\.safetensors cannot be read as safetensors"):
        load_encoder(copied_run)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no weights; give a folder that `openmae pretrain --out` has filled"):
        read_weights(tmp_path)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_run_whose_only_checkpoint_is_damaged_is_refused(copied_run: Path) -> None:
    (copied_run / ENCODER).unlink()
    for path in list_checkpoints(copied_run / "checkpoints"):
        damage(path / MODEL)
    with pytest.raises(ValueError, match=rf"holds no weights \(.* is damaged \({MODEL} is not what was written\)"):
        read_weights(copied_run)


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_message(copied_run: Path, said: list[str]) -> None:
    (copied_run / ENCODER).unlink()
    older = newest(copied_run)
    newer = older.with_name("step-99999999")
    shutil.copytree(older, newer)
    damage(newer / MODEL)
    assert read_weights(copied_run).file == older / MODEL
    assert re.search(f"step-99999999 is damaged .* {older.name} is used instead", said[-1])


def test_a_damaged_checkpoint_is_refused_by_name(copied_run: Path) -> None:
    damage(newest(copied_run) / MODEL)
    with pytest.raises(ValueError, match=rf"step-\d+ is damaged \({MODEL} is not what was written\); give another"):
        read_weights(newest(copied_run))


def test_an_encoder_alone_cannot_reconstruct_and_the_message_says_which_file_can(copied_run: Path) -> None:
    with pytest.raises(ValueError, match=rf"without its decoder.*checkpoints/step-\*/{MODEL}, which hold both"):
        load_autoencoder(copied_run / ENCODER)
    shutil.rmtree(copied_run / "checkpoints")
    with pytest.raises(ValueError, match="without its decoder"):
        load_autoencoder(copied_run)


def test_weights_of_another_network_are_refused_with_the_flags_to_add(
    tiny_run: Path, tiny_recipe: PretrainRecipe
) -> None:
    weights = read_weights(tiny_run)
    require_architecture(weights, finetune_recipe(tiny_recipe))
    require_architecture(weights, finetune_recipe(tiny_recipe, channels=13, normalize="from-data"))
    require_architecture(weights, finetune_recipe(tiny_recipe, image_size=ImageSize(56, 56), eval_resize=56))
    other = replace(finetune_recipe(tiny_recipe), width=64, patch_size=7)
    with pytest.raises(ValueError, match="is of another network than fashion-mnist-finetune") as error:
        require_architecture(weights, other)
    assert "patch_size 4 instead of 7, width 32 instead of 64" in str(error.value)
    assert str(error.value).endswith("add --patch-size 4 --width 32")


def test_what_the_backbone_defines_equals_what_a_recipe_spells_out(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    weights = read_weights(tiny_run)
    vit_t = replace(tiny_recipe, backbone="vit_tiny_patch16_224", patch_size=None, width=None, depth=None, heads=None)
    vit_t = replace(vit_t, image_size=ImageSize(32, 32))
    spelt_out = finetune_recipe(vit_t, image_size=vit_t.image_size, eval_resize=32)
    spelt_out = replace(spelt_out, patch_size=16, width=192, depth=12, heads=3)
    require_architecture(replace(weights, network=network_of(vit_t)), spelt_out)
    with pytest.raises(ValueError, match=r"\(depth 12 instead of 11\).* add --depth 12$"):
        require_architecture(replace(weights, network=network_of(vit_t)), replace(spelt_out, depth=11))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "weight"}, "it lacks weight;"),
        (
            lambda t: {**t, "a": t["bias"], "b": t["bias"], "c": t["bias"], "d": t["bias"]},
            "in addition a, b, c and 1 more;",
        ),
        (lambda t: {**t, "bias": torch.zeros(5)}, "has in another shape bias;"),
    ],
)
def test_loading_is_strict_and_says_what_differs(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    module = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"w\.safetensors is of another network") as error:
        load_strictly(module, change(module.state_dict()), Path("w.safetensors"))
    assert message in str(error.value)


# ------------------------------------------------------------------------------------ what evaluation starts from


def test_an_untrained_encoder_is_what_a_pretraining_run_starts_from(
    tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(tiny_recipe, base_lr=0.0, epochs=1, seed=7, axis_order="row-first", mlp_bias_std=0.1)
    run_pretraining(recipe, tmp_path / "run")  # at rate 0 nothing is learned
    torch.manual_seed(99)
    untrained = untrained_twin(read_weights(tmp_path / "run"), seed=7)
    assert_same(untrained, load_file(tmp_path / "run" / ENCODER))
    assert not untrained.training
    assert float(untrained.blocks[0].mlp.fc1.bias.detach().std()) > 0.01


def test_an_untrained_encoder_of_a_supervised_recipe_has_fixed_positions_and_the_papers_weights(
    tiny_recipe: PretrainRecipe,
) -> None:
    one, again = (untrained_encoder(network_of(finetune_recipe(tiny_recipe)), seed=0) for _ in range(2))
    other = untrained_encoder(network_of(finetune_recipe(tiny_recipe)), seed=1)
    assert_same(one, again.state_dict())
    assert not torch.equal(one.cls_token, other.cls_token)
    assert torch.equal(one.pos_embed, sincos_positions(32, (7, 7), prefix_tokens=1))
    qkv = one.blocks[0].attn.qkv
    bound = (6 / (32 + 96)) ** 0.5
    assert 0.95 * bound < float(qkv.weight.detach().abs().max()) <= bound
    assert not qkv.bias.any()


def start(tiny_run: Path, recipe: FinetuneRecipe, pool: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """A classifier that starts from `tiny_run`, its weights before, and the tensors it started from."""
    torch.manual_seed(3)
    vit = network_of(recipe).build_encoder(num_classes=10, global_pool=pool)
    for name, parameter in vit.named_parameters():
        if name.startswith("fc_norm."):
            nn.init.normal_(parameter)
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    start_from(vit, read_weights(tiny_run))
    return vit, before, load_file(tiny_run / ENCODER)


def test_a_mean_pooling_classifier_keeps_its_fresh_head_and_norm_and_drops_the_encoders_norm(
    tiny_run: Path, tiny_recipe: PretrainRecipe
) -> None:
    vit, before, trained = start(tiny_run, finetune_recipe(tiny_recipe), "avg")
    after = vit.state_dict()
    fresh = {name for name in after if name.startswith(("head.", "fc_norm."))}
    assert fresh == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    assert "norm.weight" in trained
    assert "norm.weight" not in after
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name] if name in fresh else trained[name]), name
    assert vit.pos_embed.requires_grad


def test_a_class_token_classifier_takes_over_the_final_norm(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    vit, before, trained = start(tiny_run, finetune_recipe(tiny_recipe), "token")
    after = vit.state_dict()
    assert torch.equal(after["norm.weight"], trained["norm.weight"])
    assert torch.equal(after["head.weight"], before["head.weight"])


@pytest.mark.parametrize("size", [ImageSize(56, 56), ImageSize(28, 56)])
def test_positions_are_resized_to_another_image_size(
    tiny_run: Path, tiny_recipe: PretrainRecipe, size: ImageSize
) -> None:
    recipe = finetune_recipe(tiny_recipe, image_size=size, eval_resize=56)
    vit, _, trained = start(tiny_run, recipe, "avg")
    grid = (size.height // 4, size.width // 4)
    expected = resize_positions(trained["pos_embed"], old_grid=(7, 7), new_grid=grid, prefix_tokens=1)
    assert vit.pos_embed.shape == (1, 1 + grid[0] * grid[1], 32)
    assert torch.equal(vit.pos_embed, expected)
    assert torch.equal(vit.pos_embed[:, :1], trained["pos_embed"][:, :1])


def test_a_fine_tuned_encoder_loads_without_its_classifier(
    tiny_run: Path, tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = finetune_recipe(tiny_recipe)
    vit, _, _ = start(tiny_run, recipe, "avg")
    write_tensors(tmp_path / ENCODER, vit.state_dict(), recipe_metadata(recipe))
    loaded = load_encoder(tmp_path / ENCODER)
    images = torch.rand(2, 1, 28, 28)
    vit.reset_classifier(0)
    with torch.inference_mode():
        assert torch.equal(loaded(images), vit.eval()(images))


def test_a_recipes_architecture_decides_what_is_built(tiny_recipe: PretrainRecipe) -> None:
    recipe = replace(tiny_recipe, normalise_target=True, decoder_width=64, decoder_heads=4)
    model = network_of(recipe).build_autoencoder()
    assert isinstance(model, MaskedAutoencoder)
    assert (model.geometry.grid, model.channels, model.normalise_target) == ((7, 7), 1, True)
    assert (model.encoder.embed_dim, len(model.encoder.blocks)) == (32, 2)
    assert (model.decoder.embed.out_features, len(model.decoder.blocks)) == (64, 1)


@pytest.mark.parametrize(
    "backbone", ["vit_tiny_patch16_224", "vit_base_patch16_reg4_gap_256", "vit_base_patch16_siglip_224"]
)
def test_encoders_with_registers_or_without_class_token_load_back(
    tiny_recipe: PretrainRecipe, tmp_path: Path, backbone: str
) -> None:
    recipe: Recipe = replace(tiny_recipe, backbone=backbone)
    assert isinstance(recipe, PretrainRecipe)
    encoder = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std).encoder
    write_tensors(tmp_path / ENCODER, encoder.state_dict(), recipe_metadata(recipe))
    assert_same(load_encoder(tmp_path), encoder.state_dict())


def test_weights_know_their_encoder_with_and_without_a_decoder(tiny_recipe: PretrainRecipe) -> None:
    one = torch.ones(1)
    whole = Weights(tensors={"encoder.a": one, "decoder.b": one}, network=network_of(tiny_recipe), file=Path("x"))
    alone = Weights(tensors={"a": one}, network=network_of(tiny_recipe), file=Path("x"))
    assert whole.encoder().keys() == alone.encoder().keys() == {"a"}


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_weights_for_colour_start_a_network_for_any_channels_as_in_timm(
    channels: int, tiny_recipe: PretrainRecipe
) -> None:
    colour = replace(tiny_recipe, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    trained = untrained_encoder(network_of(colour), seed=0)
    weights = Weights(tensors=trained.state_dict(), network=network_of(colour), file=Path("w.safetensors"))
    vit = network_of(replace(tiny_recipe, channels=channels, normalize="from-data")).build_encoder()
    start_from(vit, weights)
    kernel, original = vit.patch_embed.proj.weight, trained.patch_embed.proj.weight
    assert kernel.shape[1] == channels
    if channels == 1:
        assert torch.allclose(kernel, original.sum(1, keepdim=True))
    else:
        assert torch.allclose(kernel, torch.stack([original[:, c % 3] * 3 / channels for c in range(channels)], 1))
    rest = {name: tensor for name, tensor in vit.state_dict().items() if name != "patch_embed.proj.weight"}
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in rest.items())


def test_weights_for_other_channels_than_colour_start_only_their_own_kind(tiny_recipe: PretrainRecipe) -> None:
    weights = Weights(
        tensors=untrained_encoder(network_of(tiny_recipe), seed=0).state_dict(),
        network=network_of(tiny_recipe),
        file=Path("w.safetensors"),
    )
    vit = network_of(replace(tiny_recipe, channels=5, normalize="from-data")).build_encoder()
    with pytest.raises(ValueError, match="is for 1 channels and cannot start a model for 5; only weights for 3"):
        start_from(vit, weights)
