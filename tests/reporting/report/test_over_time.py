"""Reconstructions over time from the pictures of a run folder, which may be half written."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openmae.reporting.report.over_time import MOST_TIMES, frames_of, spread
from openmae.reporting.report.pictures import Picture
from tests.reporting.report.conftest import STEPS, write_samples


def colour(picture: Picture, column: int = 28) -> list[int]:
    """The colour of a picture half way down."""
    image = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    return [int(level) for level in np.asarray(image)[image.height // 2, column]]


def test_each_image_has_its_original_its_mask_and_a_reconstruction_for_each_step(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    frames = frames_of(tmp_path)
    assert frames is not None
    assert frames.steps == list(STEPS)
    assert len(frames.images) == 2
    first = frames.images[0]
    assert colour(first.original) == pytest.approx([200, 0, 0], abs=4)
    assert colour(first.masked) == pytest.approx([128, 128, 128], abs=4)
    assert [colour(one)[2] for one in first.reconstructions] == pytest.approx([60, 120, 180], abs=6)


def test_visible_patches_are_the_originals_in_every_reconstruction(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    frames = frames_of(tmp_path)
    assert frames is not None
    assert [colour(one, column=2) for one in frames.images[0].reconstructions] == [
        pytest.approx([200, 0, 0], abs=6)
    ] * 3


def test_a_picture_that_is_damaged_or_of_another_size_is_passed_over(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    (tmp_path / "samples" / "step-00000001.png").write_bytes(b"no picture")
    Image.new("RGB", (3, 3)).save(tmp_path / "samples" / "step-00000004.png")
    frames = frames_of(tmp_path)
    assert frames is not None
    assert frames.steps == [8]


@pytest.mark.parametrize(
    "layout",
    [None, [], {}, {"rows": 2, "cell": [0, 5], "columns": ["original", "masked", "reconstruction"]}, {"rows": -1}],
)
def test_a_layout_that_makes_no_sense_gives_no_pictures(tmp_path: Path, layout: Any) -> None:
    write_samples(tmp_path / "samples")
    (tmp_path / "samples" / "samples.json").write_text(json.dumps(layout))
    assert frames_of(tmp_path) is None


def test_many_times_are_thinned_and_the_first_and_the_last_stay() -> None:
    kept = spread(list(range(100)))
    assert len(kept) == MOST_TIMES
    assert (kept[0], kept[-1]) == (0, 99)
    assert spread([1, 2]) == [1, 2]
