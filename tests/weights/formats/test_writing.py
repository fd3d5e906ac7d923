"""What is written beside the tensors: whole files and folders, read back by us and by the libraries themselves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm as installed
import torch
from safetensors.torch import save_file
from timm.data import resolve_model_data_config

from openmae.core.masking import mask_from_noise
from openmae.core.network import Network
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights
from tests.weights.formats.samples import (
    DECODER,
    NETWORK,
    assert_same_tensors,
    autoencoder_from,
    features_of,
    random_like,
    shapes_of,
    weights_of,
    with_decoder,
)

transformers: Any = pytest.importorskip("transformers", reason="its classes load the folders")

# Nothing here is what a file without a configuration is taken for.
UNUSUAL = replace(
    NETWORK,
    image_size=(16, 24),
    width=48,
    heads=4,
    channels=2,
    mean=(0.1, 0.2),
    std=(0.3, 0.4),
    interpolation="bilinear",
    eval_resize=16,
)
PICTURES = torch.randn(2, 2, 16, 24, generator=torch.Generator().manual_seed(0))


def unusual(kind: str) -> Weights:
    if kind != "autoencoder":
        return weights_of(kind, UNUSUAL)
    decoder = replace(DECODER, heads=4, mlp_ratio=3.0)
    return random_of(with_decoder(UNUSUAL, decoder, normalise_target=False))


def random_of(network: Network) -> Weights:
    return Weights(tensors=random_like(shapes_of(network, "autoencoder")), network=network, file=Path("here"))


def huggingface_folder(weights: Weights, folder: Path) -> Path:
    save_file(
        {name: tensor.contiguous() for name, tensor in huggingface.tensors_to(weights).items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(huggingface.config_of(weights)))
    (folder / "preprocessor_config.json").write_text(json.dumps(huggingface.preprocessor_of(weights)))
    return folder


def timm_folder(weights: Weights, folder: Path) -> Path:
    save_file(timm.tensors_to(weights), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(timm.config_of(weights)))
    return folder


@pytest.mark.parametrize("kind", ["encoder", "autoencoder", "by class token"])
def test_a_folder_of_hugging_face_reads_back_whole(tmp_path: Path, kind: str) -> None:
    ours = unusual(kind)
    read = read_weights(huggingface_folder(ours, tmp_path))
    assert_same_tensors(read.tensors, ours.tensors)
    assert (read.network, read.assumed) == (ours.network, ())


@pytest.mark.parametrize("kind", ["encoder", "fine-tuned", "by class token"])
def test_a_folder_of_timm_reads_back_whole(tmp_path: Path, kind: str) -> None:
    ours = unusual(kind)
    read = read_weights(timm_folder(ours, tmp_path))
    assert_same_tensors(read.tensors, ours.tensors)
    assert (read.network, read.assumed) == (ours.network, ())


def test_a_file_of_mm_reads_back_with_heads_and_target(tmp_path: Path) -> None:
    ours = random_of(with_decoder(replace(NETWORK, heads=6), replace(DECODER, heads=8), normalise_target=False))
    torch.save(mm.container_of(ours), tmp_path / "mm.pth")
    read = read_weights(tmp_path / "mm.pth")
    assert_same_tensors(read.tensors, ours.tensors)
    assert (read.network, read.assumed) == (replace(ours.network, axis_order="row-first"), ())


def test_a_file_of_fair_reads_back_and_says_what_it_cannot_hold(tmp_path: Path) -> None:
    ours = weights_of("autoencoder")
    torch.save(fair.container_of(ours), tmp_path / "full.pth")
    assert_same_tensors(read_weights(tmp_path / "full.pth").tensors, ours.tensors)


def test_transformers_loads_the_folder_of_an_autoencoder_and_has_the_same_loss(tmp_path: Path) -> None:
    # Theirs initialises positions for a square grid only, so that no other one loads.
    ours = unusual("autoencoder")
    ours = random_of(replace(ours.network, image_size=(16, 16)))
    pictures = PICTURES[..., :16]
    theirs = transformers.ViTMAEForPreTraining.from_pretrained(huggingface_folder(ours, tmp_path)).eval()
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = autoencoder_from(ours)(pictures, mask_from_noise(noise, 4))
        expected = theirs(pictures, noise=noise)
    assert not theirs.config.norm_pix_loss
    torch.testing.assert_close(found.prediction, expected.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "by class token"])
def test_transformers_loads_the_folder_of_an_encoder_and_of_a_classifier(tmp_path: Path, kind: str) -> None:
    ours = unusual(kind)
    folder = huggingface_folder(ours, tmp_path)
    if kind == "encoder":
        theirs = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    else:
        theirs = transformers.ViTForImageClassification.from_pretrained(folder).eval()
        assert theirs.config.num_labels == 7
    with torch.no_grad():
        expected = getattr(theirs, "vit", theirs)(PICTURES).last_hidden_state
    torch.testing.assert_close(features_of(ours, PICTURES), expected, rtol=1e-5, atol=1e-5)
    processor = transformers.ViTImageProcessor.from_pretrained(folder)
    assert (list(processor.image_mean), processor.size["width"]) == ([0.1, 0.2], 24)


@pytest.mark.parametrize(("kind", "classes"), [("encoder", 0), ("fine-tuned", 7), ("by class token", 7)])
def test_timm_creates_the_network_and_the_transform_from_the_folder(tmp_path: Path, kind: str, classes: int) -> None:
    ours = unusual(kind)
    theirs = installed.create_model(f"local-dir:{timm_folder(ours, tmp_path)}", pretrained=True).eval()
    assert theirs.num_classes == classes
    assert_same_tensors(dict(theirs.state_dict()), ours.tensors)
    with torch.no_grad():
        assert torch.equal(theirs.forward_features(PICTURES), features_of(ours, PICTURES))
    transform = resolve_model_data_config(theirs)
    assert (tuple(transform["mean"]), transform["interpolation"]) == ((0.1, 0.2), "bilinear")
    assert tuple(transform["input_size"]) == (2, 16, 24)
