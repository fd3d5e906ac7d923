from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmae.data.batches import BadRecord
from openmae.data.checking import (
    DIGEST_BYTES,
    IMAGES_PER_CHUNK,
    MAX_REASONS,
    OTHER_REASONS,
    Findings,
    Survey,
    class_balance,
    common_format,
    duplicates,
    inspect_all,
    kind_of_reason,
)
from openmae.data.decoding import PixelFormat
from openmae.data.nodata import Extremes
from openmae.data.sources import open_data


def digests(*letters: bytes) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.frombuffer(b"".join(letter * DIGEST_BYTES for letter in letters), f"V{DIGEST_BYTES}")


def test_duplicates_are_counted_and_named_without_unreadable_files() -> None:
    assert duplicates(digests(b"a", b"b", b"a", b"\0", b"\0", b"c", b"a", b"b")) == (3, [[0, 2, 6], [1, 7]])
    assert duplicates(digests(b"a", b"b")) == (0, [])
    assert duplicates(digests(b"\0", b"\0")) == (0, [])
    assert duplicates(np.empty(0, f"V{DIGEST_BYTES}")) == (0, [])


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_inspected_once_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    for number in range(IMAGES_PER_CHUNK + 5):
        Image.new("L", (3 + number, 4), number).save(tmp_path / f"{number:03}.png")
    (tmp_path / "zz.jpg").write_bytes(b"<html>")
    survey = Survey()
    for findings in inspect_all(open_data(str(tmp_path)).train, workers=workers):
        survey.add(findings)
    assert (survey.images, survey.bad) == (IMAGES_PER_CHUNK + 6, 1)
    assert survey.kinds == {"PNG L": IMAGES_PER_CHUNK + 5}
    assert survey.formats == {(1, "uint8"): IMAGES_PER_CHUNK + 5}
    assert survey.reasons["not an image"].examples == [BadRecord(IMAGES_PER_CHUNK + 5, "zz.jpg", "not an image")]
    sizes = survey.sizes()
    assert sizes["height"] == [4, 4, 4]
    assert sizes["width"] == [3, 37, 71]
    assert sizes["short_side_below_224"] == IMAGES_PER_CHUNK + 5
    assert duplicates(survey.digests) == (0, [])


def test_reasons_beyond_the_limit_are_counted_together() -> None:
    survey = Survey()
    for number in range(MAX_REASONS + 50):
        name = "".join(chr(97 + int(digit)) for digit in str(number))
        bad = [BadRecord(number, "x", name)]
        survey.add(Findings(Counter(), Counter(), np.empty((0, 2), np.int32), digests(b"a"), bad, [], Extremes()))
    assert len(survey.reasons) == MAX_REASONS + 1
    assert survey.reasons[OTHER_REASONS].images == 50


def test_reasons_that_differ_in_numbers_are_one() -> None:
    assert kind_of_reason("damaged or cut short (3 bytes)") == kind_of_reason("damaged or cut short (4 bytes)")


def test_class_balance_counts_the_images_of_each_class(tmp_path: Path) -> None:
    for name, count in {"cat": 3, "dog": 1, "owl": 2}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (2, 2)).save(tmp_path / name / f"{number}.png")
    balance = class_balance(open_data(str(tmp_path)).train)
    assert balance["largest"] == [["cat", 3], ["owl", 2], ["dog", 1]]
    assert (balance["classes"], balance["unlabelled"], balance["smallest"]) == (3, 0, [])


def test_labels_that_are_no_classes_are_said_to_be_left_out(tmp_path: Path, said: list[str]) -> None:
    for number in range(2):
        Image.new("L", (2, 2)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("path,label\n0.png,crack;rust\n1.png,rust\n")
    assert class_balance(open_data(str(tmp_path), labels=str(tmp_path / "labels.csv")).train) == {}
    assert said[-1].startswith("the labels are left out: ")
    assert "(such as crack;rust)" in said[-1]


def test_the_common_format_is_what_a_run_would_use() -> None:
    assert common_format(Counter()) is None
    assert common_format(Counter({PixelFormat(3, "uint8"): 5, PixelFormat(1, "uint8"): 9})) == PixelFormat(3, "uint8")
    assert common_format(Counter({PixelFormat(1, "uint8"): 5, PixelFormat(1, "uint16"): 2})) == PixelFormat(1, "uint16")
    assert common_format(Counter({PixelFormat(13, "uint16"): 5})) == PixelFormat(13, "uint16")
