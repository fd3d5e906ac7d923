from pathlib import Path

import pytest

from tests.faults.nonfinite import measure_nonfinite
from tests.faults.processes import measure_cycles, measure_losses
from tests.faults.zygote import Zygote


@pytest.mark.slow
@pytest.mark.parametrize("case", ["rank 1 killed", "rank 0 stopped", "data worker of rank 1 stopped"])
def test_when_a_process_is_lost_the_others_end_and_name_it(
    zygote: Zygote, images: Path, tmp_path: Path, case: str
) -> None:
    result = measure_losses(zygote, images, tmp_path, cases=[case], patience=2.0)
    assert not result.failures
    assert result.named == 1


@pytest.mark.slow
def test_killed_runs_leave_nothing_behind_and_come_to_their_end(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_cycles(zygote, images, tmp_path, cycles=2, epochs=20)
    assert not result.failures
    assert result.kills >= 1
    assert (result.refused, result.processes, result.ports, result.shared_memory) == (0, 0, 0, 0)
    assert result.completed


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_reaches_no_file_and_hangs_nobody(
    zygote: Zygote, images: Path, tmp_path: Path
) -> None:
    result = measure_nonfinite(zygote, images, tmp_path, places=["loss", "weights", "optimizer state"], ranks=[1])
    assert (result.corrupt_files, result.hung) == (0, 0), result.failures
    assert result.completed == result.told == result.runs
    assert result.rewinds == 3
