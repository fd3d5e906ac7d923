"""The toy's images and recipe."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmae.recipes import PretrainRecipe, find_recipe
from tests.training.toy import BATCH, IMAGES


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of small grey images."""
    folder = tmp_path_factory.mktemp("toy-images")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def recipe(images: Path) -> PretrainRecipe:
    """Four epochs of three steps, every one of them logged."""
    found = find_recipe("fashion-mnist", "pretrain")
    assert isinstance(found, PretrainRecipe)
    return replace(
        found,
        data=str(images),
        epochs=4,
        batch_size=BATCH,
        optimizer="adamw",
        base_lr=1.0,
        warmup_epochs=1,
        workers=0,
        log_every=1,
    )


@pytest.fixture
def no_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, and waiting for the disk takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
