"""docs/metrics.md documents every field that a run writes to metrics.jsonl, and no other."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from torch import Tensor, nn

from openmae.checkpoints.names import METRICS
from openmae.data.batches import Batch
from openmae.evaluation.protocols.finetune import run_finetune
from openmae.evaluation.quality.observing import observe_quality
from openmae.recipes import FinetuneRecipe, PretrainRecipe, find_recipe
from openmae.recipes.values import TaskName
from openmae.training import pretraining
from openmae.training.pretraining import run_pretraining
from tests.evaluation.toy_data import write_images

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
NAME = re.compile(r"`([^`]+)`")
CHANNEL = re.compile(r"_\d+$")


def documented() -> dict[str, set[str]]:
    """The names in the first column of the tables, by the heading that they stand below."""
    found: dict[str, set[str]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = part.partition("\n")[0]
        rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        if rows:
            found[heading] = {CHANNEL.sub("_N", name) for row in rows for name in NAME.findall(row)}
    return found


def lines(run: Path) -> list[set[str]]:
    records = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [{CHANNEL.sub("_N", name) for name in record} for record in records]


def skip_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second loss of the training be infinite."""
    make = pretraining.reconstruction_loss

    def broken(*arguments: Any) -> Callable[[nn.Module, Batch], Tensor]:
        loss, calls = make(*arguments), iter(range(100))
        return lambda model, batch: loss(model, batch) * (float("inf") if next(calls) == 1 else 1)

    monkeypatch.setattr(pretraining, "reconstruction_loss", broken)


def test_every_field_of_the_training_and_of_its_quality_is_documented_and_no_other(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_a_step(monkeypatch)
    run_pretraining(replace(tiny_recipe, normalise_target=True, log_every=1), tmp_path, observers=[observe_quality])
    written = lines(tmp_path)
    of_quality = [names for names in written if "quality/loss" in names]
    of_training = [names for names in written if "quality/loss" not in names]
    found = documented()
    assert set().union(*of_training) == found["Lines of the training"]
    shared = {"step", "epoch", "samples"}
    assert set().union(*of_quality) == found["Lines of the quality"] | shared


def test_every_field_of_the_evaluations_is_documented_and_no_other(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    recipe = find_recipe("fashion-mnist", "finetune")
    assert isinstance(recipe, FinetuneRecipe)
    recipe = replace(
        recipe, weights=str(tiny_run), width=32, depth=2, heads=2, epochs=1, warmup_epochs=0, batch_size=10, workers=0
    )
    places = {"classification": small_fashion}
    for task, kind in (("multilabel", "labels"), ("regression", "number")):
        places[task] = write_images(tmp_path / kind, cast(Any, kind), train=20, test=10)
    written: set[str] = set()
    for task, data in places.items():
        run_finetune(replace(recipe, data=str(data), task=cast(TaskName, task)), tmp_path / task)
        evaluations = [names for names in lines(tmp_path / task) if "epoch" not in names]
        assert len(evaluations) == 1
        written |= evaluations[0]
    assert written - {"step"} == documented()["Lines of evaluations"]
