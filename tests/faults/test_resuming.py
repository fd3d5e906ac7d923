from pathlib import Path

import pytest

from tests.faults.controls import STATEFUL_RANDOMNESS
from tests.faults.endurance import measure_endurance
from tests.faults.resuming import measure_resuming, measure_samples
from tests.faults.zygote import Zygote


@pytest.mark.slow
def test_any_step_and_any_number_of_loader_processes_give_one_trace(
    zygote: Zygote, images: Path, tmp_path: Path
) -> None:
    result = measure_resuming(zygote, images, tmp_path, steps=(18,), workers=(0, 2))
    assert (result.traces, result.failed) == (1, 0), result.failures


@pytest.mark.slow
def test_traces_differ_when_randomness_is_a_state(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_resuming(zygote, images, tmp_path, steps=(18,), workers=(0,), hooks=(STATEFUL_RANDOMNESS,))
    assert result.traces == 2


@pytest.mark.slow
def test_no_image_is_left_out_or_taken_twice(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_samples(zygote, images, tmp_path, runs=1)
    assert result.kills > 0
    assert result.missing == result.repeated == result.order_changed == 0, result


@pytest.mark.slow
def test_files_and_threads_do_not_grow(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_endurance(zygote, images, tmp_path, steps=500, first=100)
    assert result.observations > 3
    assert result.files_grown < 3
    assert result.threads_grown < 3
    assert result.kilobytes_grown < 40_000
