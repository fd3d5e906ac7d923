from pathlib import Path

import pytest

from tests.faults.controls import STATEFUL_RANDOMNESS
from tests.faults.job import openmae
from tests.faults.kills import measure_kills
from tests.faults.zygote import Zygote


@pytest.mark.slow
def test_killed_runs_end_as_the_uninterrupted_one_did(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_kills(zygote, openmae(images), tmp_path, trials=2)
    assert result.kills >= result.runs >= 2
    assert result.inside_saves >= 1
    assert result.identical == result.runs, result
    assert result.unreadable == result.from_scratch == result.lines_differing == 0, result


@pytest.mark.slow
def test_killed_runs_differ_when_randomness_is_a_state(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    # A run that is killed before anything is saved begins anew, and ends alike all the same.
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        hooks = (STATEFUL_RANDOMNESS,)
        if measure_kills(zygote, openmae(images), folder, trials=1, seed=seed, hooks=hooks).differing:
            return
    pytest.fail("ten runs that were killed have ended as they would have otherwise")
