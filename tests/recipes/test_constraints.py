import math

import pytest

from openmae.recipes.constraints import BETWEEN_0_AND_1, NOT_NEGATIVE, POSITIVE, SHARE, Range, at_least, at_most

TINY = math.ulp(0.0)


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (at_least(1), [1, 2, 1e300], [0, 0.999, -1]),
        (at_most(3), [3, -1e300], [3.001, 4]),
        (POSITIVE, [TINY, 1e300], [0, -TINY]),
        (NOT_NEGATIVE, [0, TINY], [-TINY]),
        (SHARE, [0, 0.5, 1], [-TINY, 1 + 1e-9]),
        (BETWEEN_0_AND_1, [TINY, 0.5], [0, 1]),
    ],
)
def test_a_range_holds_the_numbers_between_its_ends(range_: Range, inside: list[float], outside: list[float]) -> None:
    assert [number in range_ for number in inside] == [True] * len(inside)
    assert [number in range_ for number in outside] == [False] * len(outside)


@pytest.mark.parametrize("range_", [at_least(1), at_most(3), POSITIVE, NOT_NEGATIVE, SHARE, BETWEEN_0_AND_1])
def test_nan_lies_in_no_range(range_: Range) -> None:
    assert math.nan not in range_
