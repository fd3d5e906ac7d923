"""A published log as a curve."""

import json
from pathlib import Path

import pytest

from openmae.errors import UserError
from openmae.recipes.zoo import ENTRIES
from openmae.reporting.plan.published_runs import IMAGENET
from openmae.reporting.report import published
from openmae.reporting.report.published import published_curve


def test_a_published_log_has_samples_counted_in_images_of_imagenet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"epoch": epoch, "train_loss": 0.5, "train_lr": 0.1} for epoch in (0, 1)]
    file = tmp_path / "log.txt"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(published, "fetch_log", lambda entry: file)
    log = published_curve(f"zoo:{ENTRIES[0].name}")
    assert log.published
    assert [record["samples"] for record in log.records] == [IMAGENET, 2 * IMAGENET]


def test_what_is_not_in_the_zoo_is_refused() -> None:
    with pytest.raises(UserError, match="give zoo:NAME"):
        published_curve("runs/mine")
