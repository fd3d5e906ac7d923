"""The data set in brief, from a recipe, results and a list of bad images."""

import json
from pathlib import Path

from openmae.reporting.report.data_set import MOST_BAD, data_set

RECIPE = {"data": ["a", "b"], "image_size": "28x28", "channels": 1, "pixel_type": "uint8", "mean": [0.5], "std": [0.25]}


def test_splits_facts_and_what_was_left_out(tmp_path: Path) -> None:
    record = {
        "splits": {"train": {"images": 40, "used": True}, "test": {"images": 8, "used": False}},
        "left_out": [{"what": "logo.png", "images": 1, "why": "beside the splits"}],
    }
    found = data_set(RECIPE, {"data": record}, tmp_path)
    assert found.places == "a b"
    assert found.splits == [("train", 40, True), ("test", 8, False)]
    assert found.left_out == ["logo.png (1 images, beside the splits)"]
    assert ("channels", "1 (grey)") in found.facts


def test_of_a_measurement_the_two_splits_that_it_used(tmp_path: Path) -> None:
    record = {"train": {"split": "train", "images": 40}, "measured": {"split": "val", "images": 8}}
    assert data_set(RECIPE, {"data": record}, tmp_path).splits == [("train", 40, True), ("val", 8, False)]


def test_each_bad_image_is_counted_once_and_the_first_are_named(tmp_path: Path) -> None:
    lines = [json.dumps({"image": n, "name": f"{n}.png", "reason": "cut"}) for n in (*range(30), *range(30))]
    (tmp_path / "bad_images.jsonl").write_text("\n".join([*lines, '{"image": 3, "na']))
    found = data_set(RECIPE, None, tmp_path)
    assert found.bad_total == 30
    assert len(found.bad) == MOST_BAD
    assert (found.bad[0].name, found.bad[0].reason) == ("0.png", "cut")


def test_values_of_a_wrong_kind_are_no_crash(tmp_path: Path) -> None:
    found = data_set({"channels": [1], "data": 3}, {"data": {"left_out": 3, "splits": {"train": 1}}}, tmp_path)
    assert (found.places, found.left_out, found.splits) == ("3", [], [])
