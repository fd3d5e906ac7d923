"""One real optimiser step of every stage: ViT-B/16 at 224 with four of its twelve blocks, on real image files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.training.pretraining import run_pretraining

ONE_STEP: dict[str, Any] = {"depth": 4, "epochs": 1, "batch_size": 4, "warmup_epochs": 0, "workers": 0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two JPEG files, larger than 224, tall and wide."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for index, label in enumerate(("cat", "dog")):
            for number, size in enumerate(((300, 260), (240, 310))):
                path = folder / split / label / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8) // (index + 1)
                Image.fromarray(coarse).resize(size).save(path)
    return folder


@pytest.fixture(scope="module")
def pretrained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = find_recipe("vit-b16-800e", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    result = run_pretraining(replace(recipe, data=str(photos), **ONE_STEP), out)
    assert 0.1 < result["loss"] < 3, "an untrained network on normalised patches is near 1"
    return out


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if name in after and not torch.equal(before[name], after[name])}


def with_paths(recipe: Recipe, weights: Path, photos: Path) -> dict[str, Any]:
    return {**ONE_STEP, "weights": str(weights), "data": str(photos)}


@pytest.mark.slow
def test_pretraining_step(pretrained: Path) -> None:
    trained = load_file(pretrained / "encoder.safetensors")
    assert trained["pos_embed"].shape == (1, 197, 768)
    assert sum(tensor.numel() for tensor in trained.values()) == 85_798_656 - 8 * 7_087_872


@pytest.mark.slow
def test_linear_step(pretrained: Path, photos: Path, tmp_path: Path) -> None:
    recipe = find_recipe("vit-b16-800e-linear", "linear")
    assert isinstance(recipe, LinearRecipe)
    result = run_linear(replace(recipe, **with_paths(recipe, pretrained, photos)), tmp_path / "run")
    assert result["test_images"] == 4
    head = load_file(tmp_path / "run" / "head.safetensors")
    assert head["1.weight"].shape == (2, 768)
    assert head["0.num_batches_tracked"] == 1


@pytest.mark.slow
def test_finetuning_step(pretrained: Path, photos: Path, tmp_path: Path) -> None:
    recipe = find_recipe("vit-b16-800e-finetune", "finetune")
    assert isinstance(recipe, FinetuneRecipe)
    result = run_finetune(replace(recipe, **with_paths(recipe, pretrained, photos)), tmp_path / "run")
    assert result["test_images"] == 4
    moved = changed(load_file(pretrained / "encoder.safetensors"), load_file(tmp_path / "run" / "encoder.safetensors"))
    assert {"pos_embed", "cls_token", "patch_embed.proj.weight", "blocks.3.mlp.fc2.weight"} <= moved
