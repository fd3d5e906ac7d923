"""Trackers get the same figures as metrics.jsonl, and a missing package is one sentence with its command."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from openmae.recipes import PretrainRecipe
from openmae.training.pretraining import run_pretraining


class Recorder:
    """Stands for the packages: remembers every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> "Recorder":
            self.calls.append((name, arguments, named))
            return self

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


@pytest.mark.parametrize(
    ("package", "log", "close"), [("wandb", "log", "finish"), ("mlflow", "log_metrics", "end_run")]
)
def test_every_logged_figure_reaches_the_tracker(
    package: Literal["wandb", "mlflow"],
    log: str,
    close: str,
    tiny_recipe: PretrainRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    functions = {name: getattr(recorder, name) for name in ("init", "set_experiment", "start_run", "log_params")}
    functions |= {name: getattr(recorder, name) for name in ("log", "log_metrics", "finish", "end_run")}
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(**functions))
    recipe = replace(tiny_recipe, track=package, log_every=1, epochs=1)
    run_pretraining(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sent = [{"step": named["step"], **arguments[0]} for arguments, named in recorder.of(log)]
    assert sent == lines
    assert len(sent) == 3
    assert len(recorder.of(close)) == 1


def test_a_missing_package_names_its_extra(
    tiny_recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"pip install 'openmae\[wandb\]'"):
        run_pretraining(replace(tiny_recipe, track="wandb"), tmp_path / "run")
