"""Files of other projects, used as `--weights` of the verbs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from openmae.checkpoints.names import ENCODER
from openmae.data.sources import open_data
from openmae.evaluation.embedding import embed
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.knn import run_knn
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, find_recipe
from openmae.reporting.pictures import reconstruct_sample
from openmae.training.pretraining import run_pretraining
from openmae.weights.building import encoder_from
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights
from tests.weights.formats.samples import (
    NETWORK,
    save_as_fair,
    save_as_mm,
    weights_of,
    with_decoder,
)

GREY = replace(NETWORK, image_size=(28, 28), patch_size=7, channels=1, mean=(0.5,), std=(0.5,), eval_resize=28)
HF_CONFIG = {
    "model_type": "vit_mae",
    "image_size": 28,
    "num_attention_heads": 3,
    "decoder_num_attention_heads": 16,
    "norm_pix_loss": True,
}


def grey(kind: str) -> Weights:
    return weights_of(kind, with_decoder(GREY) if kind == "autoencoder" else GREY)


def fair_file(folder: Path) -> Path:
    return save_as_fair(folder / "mae_pretrain_full.pth", fair.tensors_to(grey("autoencoder")), input_size=28)


def mm_file(folder: Path) -> Path:
    return save_as_mm(folder / "mae.pth", mm.tensors_to(grey("autoencoder")), "head=dict(norm_pix=True)")


def huggingface_folder(folder: Path) -> Path:
    save_file(
        {k: t.contiguous() for k, t in huggingface.tensors_to(grey("autoencoder")).items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    return folder


def timm_folder(folder: Path) -> Path:
    torch.save(timm.tensors_to(grey("encoder")), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"architecture": GREY.backbone, "model_args": {"num_heads": 3}}))
    return folder


WITH_DECODER: list[Callable[[Path], Path]] = [fair_file, mm_file, huggingface_folder]


@pytest.mark.parametrize("make", [*WITH_DECODER, timm_folder])
def test_a_foreign_encoder_embeds_and_finds_neighbours(
    make: Callable[[Path], Path], tmp_path: Path, small_fashion: Path
) -> None:
    file = make(tmp_path)
    embed(file, str(small_fashion), tmp_path / "features.parquet")
    features = pq.read_table(tmp_path / "features.parquet")
    assert len(features["cls"][0]) == 192
    figures = run_knn(file, str(small_fashion), neighbours=5)
    assert figures["top1"] > 20  # chance is 10: random weights keep much of such images


@pytest.mark.parametrize("make", WITH_DECODER)
def test_a_foreign_autoencoder_reconstructs(make: Callable[[Path], Path], tmp_path: Path, small_fashion: Path) -> None:
    source = open_data(str(small_fashion)).train
    assert reconstruct_sample(make(tmp_path), source, tmp_path / "picture.png", rows=2).stat().st_size > 1000


def changed(data: Path, weights: Path) -> dict[str, Any]:
    """The fields of a small recipe that fit the files above."""
    return {
        "data": str(data),
        "weights": str(weights),
        "patch_size": 7,
        "width": None,
        "depth": 2,
        "heads": None,
        "epochs": 1,
        "batch_size": 40,
        "workers": 0,
    }


def test_pretraining_continues_from_a_foreign_encoder(tmp_path: Path, small_fashion: Path) -> None:
    recipe = find_recipe("fashion-mnist", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    file = fair_file(tmp_path)
    changes = changed(small_fashion, file)
    run_pretraining(replace(recipe, base_lr=0.0, **changes), tmp_path / "run")
    expected = encoder_from(read_weights(file)).state_dict()
    for name, tensor in load_file(tmp_path / "run" / ENCODER).items():
        assert torch.equal(tensor, expected[name]), name
    assert read_weights(tmp_path / "run").network.mean == (0.5,)


def test_linear_evaluation_and_fine_tuning_start_from_foreign_files(tmp_path: Path, small_fashion: Path) -> None:
    linear, finetune = find_recipe("fashion-mnist", "linear"), find_recipe("fashion-mnist", "finetune")
    assert isinstance(linear, LinearRecipe)
    assert isinstance(finetune, FinetuneRecipe)
    for make, name in ((fair_file, "fair"), (timm_folder, "timm")):
        (tmp_path / name).mkdir()
        file = make(tmp_path / name)
        changes = changed(small_fashion, file)
        probed = run_linear(replace(linear, **changes), tmp_path / name / "linear")
        tuned = run_finetune(replace(finetune, **changes), tmp_path / name / "finetune")
        assert probed["weights"] == tuned["weights"] == str(read_weights(file).file)
