"""Trainings that stop where they would begin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openmae
from openmae.recipes import PretrainRecipe
from openmae.training import pretraining


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PretrainRecipe]:
    """Calls `openmae.pretrain`; returns the recipe that would be trained by."""
    recipes: list[PretrainRecipe] = []

    def run_pretraining(recipe: PretrainRecipe, out: Path, **_: Any) -> dict[str, Any]:
        recipes.append(recipe)
        return {"out": str(out)}

    def call(*args: Any, **kwargs: Any) -> PretrainRecipe:
        openmae.pretrain(*args, **kwargs)
        return recipes.pop()

    monkeypatch.setattr(pretraining, "run_pretraining", run_pretraining)
    return call
