"""Files that transformers writes, read and compared with what transformers computes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from openmae.core.masking import mask_from_noise
from openmae.weights.building import load_autoencoder, load_encoder
from openmae.weights.formats import huggingface
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import (
    KINDS,
    NETWORK,
    assert_same_tensors,
    features_of,
    stored,
    weights_of,
)

transformers: Any = pytest.importorskip("transformers", reason="the class to compare with is its own")

SIZE = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-6,
}
DECODER = {
    "decoder_hidden_size": 20,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 5,
    "decoder_intermediate_size": 80,
}
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.enable_progress_bar()


def randomised(model: nn.Module) -> Any:
    """The model in eval mode with random weights, nowhere zero: positions and tokens of a fresh one are zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if "norm" in name and "weight" in name:
                parameter.add_(1.0)
    assert all(parameter.all() for parameter in model.parameters())
    return model.eval()


def mae(**changes: Any) -> Any:
    return randomised(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**{**SIZE, **DECODER, **changes})))


def images(channels: int = 3, size: int = 16) -> Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_autoencoder_has_the_same_loss_and_features(tmp_path: Path, channels: int, normalised: bool) -> None:
    theirs = mae(norm_pix_loss=normalised, num_channels=channels)
    theirs.save_pretrained(tmp_path)
    model, network, mask_ratio = load_autoencoder(tmp_path)
    assert (network.normalise_target, network.channels, mask_ratio) == (normalised, channels, 0.75)
    assert network.decoder is not None
    assert (network.architecture.heads, network.decoder.heads) == (3, 5)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = theirs(images(channels), noise=noise)
        found = model(images(channels), mask_from_noise(noise, 4))
        # Theirs is masked even in eval mode; without hidden patches the order of the noise is left: the grid's here.
        theirs.config.mask_ratio = 0.0
        everything = theirs.vit(images(channels), noise=torch.arange(16.0).expand(3, -1)).last_hidden_state
    torch.testing.assert_close(found.loss, expected.loss, rtol=TOLERANCE, atol=0)
    torch.testing.assert_close(found.prediction, expected.logits, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(model.encode(images(channels)), everything, rtol=TOLERANCE, atol=TOLERANCE)
    assert expected.logits.std() > 0.1


def test_a_saved_encoder_has_the_same_features_and_leaves_its_pooler_out_aloud(tmp_path: Path, said: list[str]) -> None:
    theirs = randomised(transformers.ViTModel(transformers.ViTConfig(**SIZE)))
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(images()).last_hidden_state
    found = features_of(read_weights(tmp_path), images())
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert "its pooler is left out" in said[-1]


def test_a_saved_classifier_has_the_same_scores(tmp_path: Path) -> None:
    theirs = randomised(transformers.ViTForImageClassification(transformers.ViTConfig(**SIZE, num_labels=5)))
    theirs.save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    vit = weights.network.build_encoder(num_classes=5, global_pool="token").eval()
    vit.load_state_dict(dict(weights.tensors), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(vit(images()), theirs(images()).logits, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["autoencoder", "encoder", "by class token"])
def test_transformers_loads_what_is_written_and_computes_the_same(kind: str) -> None:
    ours = weights_of(kind)
    size = {**SIZE, "hidden_size": 192, "intermediate_size": 768}
    classes = {
        "autoencoder": lambda: transformers.ViTMAEForPreTraining(
            transformers.ViTMAEConfig(
                **size,
                decoder_hidden_size=32,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=16,
                decoder_intermediate_size=128,
                mask_ratio=0.0,
            )
        ),
        "encoder": lambda: transformers.ViTModel(transformers.ViTConfig(**size), add_pooling_layer=False),
        "by class token": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**size, num_labels=7)),
    }
    theirs = classes[kind]().eval()
    loaded = type(theirs).from_pretrained(None, config=theirs.config, state_dict=huggingface.tensors_to(ours)).eval()
    with torch.no_grad():
        inner = getattr(loaded, "vit", loaded)
        options = {"noise": torch.arange(16.0).expand(3, -1)} if kind == "autoencoder" else {}
        expected = inner(images(), **options).last_hidden_state
    torch.testing.assert_close(features_of(ours, images()), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_three_ways_of_naming_give_the_same_weights(tmp_path: Path) -> None:
    theirs = mae()
    theirs.save_pretrained(tmp_path / "disk")
    on_disk = load_file(tmp_path / "disk" / "model.safetensors")
    assert any("decoder_encoder.layer" in key for key in on_disk) or transformers.__version__ < "5"
    expected = read_weights(tmp_path / "disk")
    by_4 = huggingface.tensors_to(expected)
    assert "decoder.decoder_layers.1.attention.attention.query.weight" in by_4
    config = json.loads((tmp_path / "disk" / "config.json").read_text())
    for tensors in (by_4, theirs.state_dict()):
        read = huggingface.weights_from(stored(tensors, config=config))
        assert_same_tensors(read.tensors, expected.tensors)
        assert read.network == expected.network


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("sharded", [True, False])
def test_folders_with_one_file_or_several_are_the_same(tmp_path: Path, name: str, sharded: bool) -> None:
    theirs = mae()
    theirs.save_pretrained(tmp_path / "expected")
    expected = read_weights(tmp_path / "expected")
    folder = tmp_path / "folder"
    if name.endswith("safetensors"):
        theirs.save_pretrained(folder, **({"max_shard_size": "40KB"} if sharded else {}))
    else:
        theirs.config.save_pretrained(folder)
        tensors = theirs.state_dict()
        if not sharded:
            torch.save(tensors, folder / name)
        else:
            shards = {key: f"pytorch_model-{number % 2}.bin" for number, key in enumerate(tensors)}
            for shard in set(shards.values()):
                torch.save({key: tensor for key, tensor in tensors.items() if shards[key] == shard}, folder / shard)
            (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": shards}))
    assert (folder / name).is_file() == (not sharded)
    read = read_weights(folder)
    assert_same_tensors(read.tensors, expected.tensors)
    assert read.network == expected.network


def test_statistics_filter_and_size_come_from_the_preprocessor(tmp_path: Path) -> None:
    theirs = randomised(transformers.ViTModel(transformers.ViTConfig(**SIZE)))
    theirs.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(
        image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], resample=2, size={"height": 20, "width": 20}
    )
    processor.save_pretrained(tmp_path)
    network = read_weights(tmp_path).network
    assert (network.mean, network.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (network.interpolation, network.eval_resize) == ("bilinear", 20)


def test_without_a_preprocessor_imagenets_statistics_are_assumed_aloud_except_for_mae(
    tmp_path: Path, said: list[str]
) -> None:
    randomised(transformers.ViTModel(transformers.ViTConfig(**SIZE))).save_pretrained(tmp_path / "vit")
    mae().save_pretrained(tmp_path / "mae")
    assert read_weights(tmp_path / "vit").network.mean == NETWORK.mean
    assert "does not say how pixels are normalised: ImageNet's" in said[-1]
    assert read_weights(tmp_path / "mae").network.mean == NETWORK.mean
    assert "normalised: ImageNet" not in said[-1]


def test_without_a_config_a_decoder_predicts_raw_pixels_as_the_published_files_do() -> None:
    file = stored(huggingface.tensors_to(weights_of("autoencoder")))
    weights = huggingface.weights_from(file)
    assert not weights.network.normalise_target
    assert any("facebook/vit-mae, which predicts raw pixels" in note for note in weights.assumed)
    assert huggingface.weights_from(file, normalised=True).network.normalise_target


def test_another_epsilon_is_said_and_the_references_is_used(tmp_path: Path, said: list[str]) -> None:
    theirs = randomised(transformers.ViTModel(transformers.ViTConfig(**{**SIZE, "layer_norm_eps": 1e-3})))
    theirs.save_pretrained(tmp_path)
    found = features_of(read_weights(tmp_path), images())
    assert "layer_norm_eps 0.001; OpenMAE computes with 1e-6" in said[-1]
    with torch.no_grad():
        assert (theirs(images()).last_hidden_state - found).abs().max() > TOLERANCE
        for module in theirs.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
        torch.testing.assert_close(found, theirs(images()).last_hidden_state, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_grid_that_is_no_square_comes_from_the_config(tmp_path: Path) -> None:
    theirs = randomised(transformers.ViTModel(transformers.ViTConfig(**{**SIZE, "image_size": [8, 24]})))
    theirs.save_pretrained(tmp_path)
    assert read_weights(tmp_path).network.image_size == (8, 24)
    with torch.no_grad():
        picture = torch.randn(1, 3, 8, 24)
        expected = theirs(picture).last_hidden_state
        found = load_encoder(tmp_path).forward_features(picture)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "quick_gelu"}, "computes with the activation 'quick_gelu', OpenMAE with gelu"),
        ({"num_attention_heads": 0}, "num_attention_heads is '0' in the configuration"),
        ({"num_attention_heads": "many"}, "num_attention_heads is 'many' in the configuration"),
        ({"num_attention_heads": 5}, "is 192 wide, which 5 attention heads cannot share"),
        ({"image_size": 224}, "positions for 16 patches, but its configuration says 224x224"),
        ({"image_size": [4, "x"]}, "image_size is .* in the configuration"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    file = stored(huggingface.tensors_to(weights_of("encoder")), config=config)
    with pytest.raises(ValueError, match=message):
        huggingface.weights_from(file)


def test_a_preprocessor_that_enlarges_absurdly_is_refused() -> None:
    file = stored(huggingface.tensors_to(weights_of("encoder")), preprocessor={"size": {"height": 10**6}})
    with pytest.raises(ValueError, match=r"for images of 16x16, but its configuration resizes them to 1000000 before"):
        huggingface.weights_from(file)


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_a_block_without_one_of_its_three_is_refused(part: str) -> None:
    tensors = huggingface.tensors_to(weights_of("encoder"))
    del tensors[f"encoder.layer.1.attention.attention.{part}.weight"]
    with pytest.raises(ValueError, match="lacks query, key or value of"):
        huggingface.weights_from(stored(tensors))


def test_every_kind_that_it_holds_is_recognised_and_no_other_layout_claims_it() -> None:
    for kind in set(KINDS) - {"fine-tuned", "probe"}:
        assert huggingface.recognises(stored(huggingface.tensors_to(weights_of(kind))))
    assert not huggingface.recognises(stored(weights_of("encoder").tensors))
