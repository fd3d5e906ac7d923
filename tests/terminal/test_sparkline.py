import math

import pytest

from openmae.terminal.sparkline import ASCII, sparkline


def curve(*values: float) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in enumerate(values)]


def test_the_lowest_and_the_highest_figures_have_the_lowest_and_the_highest_signs() -> None:
    assert sparkline(curve(4.0, 1.0, 2.0), 3) == "█▁▃"
    assert sparkline(curve(4.0, 1.0, 2.0), 3, levels=ASCII) == "@.-"


def test_a_long_curve_is_a_mean_of_equal_parts_of_the_steps() -> None:
    assert sparkline(curve(3.0, 1.0, 0.0, 0.0), 2) == "█▁"
    uneven = [(0.0, 8.0), (1.0, 8.0), (2.0, 8.0), (100.0, 1.0)]
    assert sparkline(uneven, 4) == "███▁", "parts without any points repeat what was before"


def test_first_losses_do_not_flatten_what_follows() -> None:
    falling = [1000.0, *(1.0 - step / 20 for step in range(19))]
    assert len(set(sparkline(curve(*falling), 20))) == 8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_marked(bad: float) -> None:
    assert sparkline(curve(2.0, bad, 1.0), 3) == "█!▁"
    assert sparkline(curve(bad, bad), 2) == "!!"


def test_few_points_make_a_short_curve_and_none_make_none() -> None:
    assert sparkline([], 10) == ""
    assert sparkline(curve(1.0), 10) == "▁"
    assert sparkline(curve(1.0, 1.0, 1.0), 10) == "▁▁▁"
