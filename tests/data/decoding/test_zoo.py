"""Broken, hostile and unusual files: each is read or refused as its row in docs/data.md says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openmae.data.decoding import BadImage, open_image, why_unreadable
from openmae.data.sources import Source, open_data
from tests.data.decoding.crafting import encoded
from tests.data.decoding.zoo import ZOO, build, table
from tests.data.decoding.zoo_kinds import COLOUR, DAMAGED, PICTURE, PNG, Kind, Read, Refused, Unlisted

DOCUMENT = Path(__file__).parents[3] / "docs" / "data.md"
BEGIN = "| kind of file | what happens |\n|---|---|\n"
BOMB_MEGABYTES, BOMB_SECONDS = 50, 10
GOOD_IMAGES = 20
INFINITE = "some of its values are infinite"


def listed(folder: Path) -> dict[str, tuple[Source, int]]:
    """Every image that `--data` finds there, by name."""
    source = open_data(str(folder)).train
    return {source.name(index): (source, index) for index in range(len(source))}


def printed(path: Path) -> str:
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def decode_as_stored(source: Source, index: int) -> None:
    opened = open_image(source.read(index))
    opened.decode(opened.stored)


def no_program(*arguments: object, **options: object) -> None:
    raise AssertionError(f"a program was started: {arguments}")


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.name)
def test_a_file_is_read_or_refused_as_its_row_says(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kind.possible:
        pytest.skip("no such file can be made here")
    (tmp_path / "good.png").write_bytes(PNG)
    specimens = build(tmp_path, [kind])
    images = listed(tmp_path)
    for name in ("Popen", "run"):
        monkeypatch.setattr(subprocess, name, no_program)
    for name in ("system", "posix_spawn", "execv"):
        monkeypatch.setattr(os, name, no_program)
    assert specimens
    for path, _ in specimens:
        if kind.spoil is not None:
            kind.spoil(path)
        if isinstance(kind.outcome, Unlisted):
            assert list(images) == ["good.png"]
            continue
        source, index = images[printed(path)]
        if isinstance(kind.outcome, Refused):
            with pytest.raises((BadImage, OSError)) as refused:
                decode_as_stored(source, index)
            assert isinstance(refused.value, BadImage | OSError)
            why = why_unreadable(refused.value)
            assert kind.outcome.reason in why
        else:
            opened = open_image(source.read(index))
            pixels = opened.decode(kind.outcome.format)
            assert (opened.height, opened.width) == pixels.shape[:2] == kind.outcome.size
            assert kind.outcome.pixels is not None
            assert np.abs(pixels.astype(np.float64) - kind.outcome.pixels).max() <= kind.outcome.tolerance


MEASURE_BOMBS = """
import json, resource, sys, time
from openmae.data.decoding import BadImage, PixelFormat, decode
from openmae.data.sources.storage import read_file

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def attempt(path):
    try:
        decode(read_file(path), PixelFormat())
    except (BadImage, OSError):
        pass

first, *bombs = sys.argv[1:]
attempt(first)
for path in bombs:
    before, began = peak(), time.perf_counter()
    attempt(path)
    print(json.dumps([path, peak() - before, time.perf_counter() - began]))
"""


def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    good.write_bytes(PNG)
    kinds = [
        kind for kind in ZOO if (isinstance(kind.outcome, Refused) and kind.outcome.bomb) or "inflate" in kind.name
    ]
    bombs = build(tmp_path, kinds)
    command = [sys.executable, "-c", MEASURE_BOMBS, str(good), *(str(path) for path, _ in bombs)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    measured = [json.loads(line) for line in lines]
    assert len(measured) == len(bombs) > 15
    for path, megabytes, seconds in measured:
        assert megabytes < BOMB_MEGABYTES, path
        assert seconds < BOMB_SECONDS, path


PRETRAIN = """
import json, resource, sys, warnings
from dataclasses import replace
from pathlib import Path
from openmae.recipes import find_recipe
from openmae.training.pretraining import run_pretraining

warnings.simplefilter("error")
recipe = replace(
    find_recipe("fashion-mnist", "pretrain"), data=sys.argv[1], channels=3, pixel_type="uint8", width=32, depth=1,
    heads=2, decoder_width=32, decoder_depth=1, decoder_heads=2, epochs=2, batch_size=int(sys.argv[3]), workers=0,
    hold=False, max_bad=0.9, mean=(0.5,) * 3, std=(0.25,) * 3, normalize="recipe",
)
result = run_pretraining(recipe, Path(sys.argv[2]))
print(json.dumps([result["epoch"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def pretrain(data: Path, out: Path, images: int) -> tuple[float, int]:
    """Epochs done and peak memory of a run of two steps over all images, in a process of its own."""
    command = [sys.executable, "-c", PRETRAIN, str(data), str(out), str(images)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    epochs, kilobytes = json.loads(finished.stdout)
    return float(epochs), int(kilobytes)


def is_bad_for_colour(kind: Kind) -> bool:
    if isinstance(kind.outcome, Read):
        return kind.outcome.format != COLOUR
    return isinstance(kind.outcome, Refused)


@pytest.mark.slow
def test_a_run_over_the_whole_zoo_survives_and_lists_what_was_bad(tmp_path: Path) -> None:
    zoo, clean = tmp_path / "zoo", tmp_path / "clean"
    zoo.mkdir()
    clean.mkdir()
    # Files that another kind repairs or spoils while running are for the test above.
    specimens = build(zoo, [kind for kind in ZOO if kind.spoil is None and not isinstance(kind.outcome, Unlisted)])
    for number in range(GOOD_IMAGES):
        (zoo / f"good-{number}.png").write_bytes(PNG)
    images = len(specimens) + GOOD_IMAGES
    for number in range(images):
        (clean / f"{number}.png").write_bytes(encoded(PICTURE.rotate(number), "PNG"))
    epochs, memory = pretrain(zoo, tmp_path / "run", images)
    assert epochs == 2
    records = [json.loads(line) for line in (tmp_path / "run" / "bad_images.jsonl").read_text().splitlines()]
    expected = {printed(path): kind for path, kind in specimens if is_bad_for_colour(kind)}
    reasons = {record["name"]: record["reason"] for record in records}
    assert set(reasons) == set(expected)
    assert len(records) == len(expected)
    for name, why in reasons.items():
        kind = expected[name]
        wanted = kind.outcome.reason if isinstance(kind.outcome, Refused) else None
        # Deep pixels and bands cannot become 8-bit colour, damaged or whole: whichever is noticed first.
        other_form = " which would not survive as " in why or " channels instead of " in why
        assert other_form if wanted is None else wanted in why or (wanted in (DAMAGED, INFINITE) and other_form)
        assert str(tmp_path) not in why
    clean_epochs, clean_memory = pretrain(clean, tmp_path / "clean-run", images)
    assert clean_epochs == 2
    assert not (tmp_path / "clean-run" / "bad_images.jsonl").exists()
    assert memory < 1.5 * clean_memory


def test_the_zoo_is_as_large_as_promised() -> None:
    assert len({kind.name for kind in ZOO}) == len(ZOO) >= 40


def test_the_documented_table_is_that_of_the_zoo() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    start = text.index(BEGIN) + len(BEGIN)
    assert text[start:].partition("\n\n")[0].rstrip("\n") + "\n" == table()
