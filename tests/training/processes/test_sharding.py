import math

import pytest
import torch

from openmae.training.processes.sharding import all_finite


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 5, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(number: float, place: int, dtype: torch.dtype) -> None:
    good = [torch.arange(10, dtype=dtype) - 5, torch.empty(0, dtype=dtype), torch.tensor(7), torch.tensor([True])]
    assert all_finite(good)
    bad = good[0].clone()
    bad[place] = number
    assert not all_finite([*good, bad.reshape(5, 2)])
