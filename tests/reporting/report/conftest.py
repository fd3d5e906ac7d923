"""A small run that has everything that a report can show, with names that try to be HTML."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openmae.checkpoints.names import BAD_IMAGES, METRICS
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import LinearRecipe, PretrainRecipe, find_recipe
from openmae.reporter import Reporter, use
from openmae.reporting.report.writing import ReportResult, Wanted, write_report
from openmae.training.pretraining import run_pretraining

HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>"
CLASSES = (f"bright{HOSTILE}", "dark & <b>deep</b>")
STEPS = (1, 4, 8)
ROWS, CELL = 2, 56
MISLABELLED = 6
"""The test image that has the label of the other class."""


@pytest.fixture(scope="session")
def hostile_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark images, whose names and classes try to be HTML; one of the test split has a wrong label."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 60)):
        rows, labels = [], []
        for place in range(count):
            file = io.BytesIO()
            level = 160 if place % 2 == 0 else 30
            Image.fromarray((level + rng.integers(0, 60, (28, 28))).astype(np.uint8)).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": f"{place}{HOSTILE}.png"})
            wrong = split == "test" and place == MISLABELLED
            labels.append(CLASSES[(place + wrong) % 2])
        pq.write_table(pa.table({"image": rows, "label": labels}), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def whole_run(hostile_data: Path, tiny_recipe: PretrainRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training with quality, alarms, samples and bad images, and measurements beside it."""
    folder = tmp_path_factory.mktemp("hostile") / f"run <b>{'very-long-' * 12}"
    with use(Reporter(quiet=True)):
        run_pretraining(replace(tiny_recipe, data=str(hostile_data), epochs=8, log_every=1), folder)
        linear = find_recipe("fashion-mnist", "linear")
        assert isinstance(linear, LinearRecipe)
        for name, untrained in (("linear", False), ("twin", True)):
            recipe = replace(
                linear,
                data=str(hostile_data),
                weights=str(folder),
                cached=True,
                untrained=untrained,
                width=tiny_recipe.width,
                depth=tiny_recipe.depth,
                heads=tiny_recipe.heads,
                workers=0,
            )
            run_linear(recipe, folder.with_name(name))
    knn = {"protocol": "knn", "encoder": "pretrained", "weights": str(folder), "label_fraction": 0.1, "top1": 81.25}
    folder.with_name("knn.json").write_text(json.dumps([knn, {**knn, "encoder": "untrained", "top1": 50.5}]))
    with (folder / METRICS).open("a") as file:
        for step in STEPS:
            quality = {
                "loss": 0.9 / step,
                "own_mean": 1.0,
                "smooth": 0.7,
                "rank": 4.0 + step,
                "probe": 50.0,
                "held_out": 1.0,
            }
            line = {"step": step, "epoch": float(step), "samples": 40 * step}
            file.write(json.dumps({**line, **{f"quality/{name}": value for name, value in quality.items()}}) + "\n")
    (folder / "alarms.jsonl").write_text(
        json.dumps({"step": 4, "kind": "spike", "message": f"the loss rose to 3.1{HOSTILE}; lower --base-lr"}) + "\n"
    )
    (folder / BAD_IMAGES).write_text(
        json.dumps({"image": 3, "name": f"bad{HOSTILE}.png", "reason": "truncated"}) + "\n"
    )
    write_samples(folder / "samples")
    return folder


def write_samples(folder: Path) -> None:
    """Pictures of two images over three times, in which only the reconstruction changes, and a stripe is visible."""
    folder.mkdir()
    columns = ["original", "masked", "reconstruction"]
    for place, step in enumerate(STEPS):
        grid = np.zeros((ROWS * CELL, len(columns) * CELL, 3), dtype=np.uint8)
        grid[:, :CELL] = (200, 0, 0)
        grid[:, CELL : 2 * CELL] = 128  # hidden but for a stripe of the original
        grid[:, CELL : CELL + 8] = (200, 0, 0)
        grid[:, 2 * CELL :] = (0, 0, 60 + 60 * place)
        Image.fromarray(grid).save(folder / f"step-{step:08d}.png")
    layout = {"rows": ROWS, "cell": [CELL, CELL], "columns": columns}
    (folder / "samples.json").write_text(json.dumps(layout))


@pytest.fixture(scope="session")
def whole_report(whole_run: Path) -> Iterator[ReportResult]:
    """The report of `whole_run`."""
    with use(Reporter(quiet=True)):
        yield write_report(Wanted(runs=[str(whole_run)], images=60))
