"""Fixed position tables and their resizing."""

from math import cos, sin

import pytest
import torch

from openmae.core.positions import AxisOrder, resize_positions, sincos_positions


def test_values_of_the_smallest_table_by_hand() -> None:
    s, c = sin(1), cos(1)
    column_first = [[0, 1, 0, 1], [s, c, 0, 1], [0, 1, s, c], [s, c, s, c]]
    row_first = [[0, 1, 0, 1], [0, 1, s, c], [s, c, 0, 1], [s, c, s, c]]
    torch.testing.assert_close(sincos_positions(4, (2, 2)), torch.tensor([column_first], dtype=torch.float32))
    found = sincos_positions(4, (2, 2), axis_order="row-first")
    torch.testing.assert_close(found, torch.tensor([row_first], dtype=torch.float32))


def test_frequencies_fall_from_one_by_powers_of_ten_thousand() -> None:
    # Width 8 has D/4 = 2 frequencies: 10000^0 = 1 and 10000^(-1/2) = 0.01; this is column 2 of row 1.
    expected = [sin(2), sin(0.02), cos(2), cos(0.02), sin(1), sin(0.01), cos(1), cos(0.01)]
    found = sincos_positions(8, (2, 3))[0, 1 * 3 + 2]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("grid", [(4, 4), (2, 5), (5, 2)])
def test_axis_orders_are_the_halves_swapped(grid: tuple[int, int]) -> None:
    column_first, row_first = (sincos_positions(16, grid, axis_order=order) for order in _orders())
    assert torch.equal(column_first, row_first.roll(8, dims=-1))
    assert not torch.equal(column_first, row_first)


def _orders() -> tuple[AxisOrder, AxisOrder]:
    return "column-first", "row-first"


def test_first_half_follows_the_column_in_column_first_order() -> None:
    table = sincos_positions(16, (3, 5))[0].reshape(3, 5, 16)
    assert torch.equal(table[0, :, :8], table[2, :, :8])
    assert torch.equal(table[:, 0, 8:], table[:, 4, 8:])


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_prefix_rows_are_zero_and_move_nothing_else(prefix: int) -> None:
    table = sincos_positions(16, (2, 3), prefix_tokens=prefix)
    assert table.shape == (1, prefix + 6, 16)
    assert torch.equal(table[:, :prefix], torch.zeros(1, prefix, 16))
    assert torch.equal(table[:, prefix:], sincos_positions(16, (2, 3)))


def test_every_patch_has_its_own_position() -> None:
    table = sincos_positions(32, (7, 9))[0]
    assert len(torch.unique(table, dim=0)) == 63


@pytest.mark.parametrize("width", [10, 513, 2])
def test_width_that_four_does_not_divide_is_refused_with_one_that_fits(width: int) -> None:
    fitting = width // 4 * 4 + 4
    with pytest.raises(ValueError, match=f"a width that 4 divides, not {width}; use {fitting}"):
        sincos_positions(width, (2, 2))
    assert sincos_positions(fitting, (2, 2)).shape[-1] == fitting


def test_resizing_to_the_same_grid_changes_nothing() -> None:
    table = torch.randn(1, 7, 8)
    assert torch.equal(resize_positions(table, old_grid=(2, 3), new_grid=(2, 3), prefix_tokens=1), table)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_resizing_keeps_the_prefix_rows(prefix: int) -> None:
    table = torch.randn(1, prefix + 12, 8)
    resized = resize_positions(table, old_grid=(3, 4), new_grid=(5, 2), prefix_tokens=prefix)
    assert resized.shape == (1, prefix + 10, 8)
    assert torch.equal(resized[:, :prefix], table[:, :prefix])


@pytest.mark.parametrize(("old", "new"), [((4, 6), (8, 3)), ((6, 4), (3, 8)), ((4, 4), (4, 6))])
def test_resizing_keeps_rows_and_columns_apart(old: tuple[int, int], new: tuple[int, int]) -> None:
    rows = torch.linspace(0, 1, old[0])[:, None].expand(old)
    columns = torch.linspace(0, 1, old[1])[None, :].expand(old)
    table = torch.stack([rows, columns], dim=-1).reshape(1, -1, 2)
    resized = resize_positions(table, old_grid=old, new_grid=new, prefix_tokens=0).reshape(*new, 2)
    for row in range(new[0]):
        torch.testing.assert_close(resized[row, :, 1], resized[0, :, 1])
    for column in range(new[1]):
        torch.testing.assert_close(resized[:, column, 0], resized[:, 0, 0])
    assert (resized[:, 0, 0].diff() > 0).all()
    assert (resized[0, :, 1].diff() > 0).all()


def test_resizing_is_bicubic() -> None:
    # A bicubic kernel (a = -0.5 with antialiasing, as Pillow's) overshoots next to a step; a bilinear one cannot.
    step = torch.tensor([0.0, 0.0, 1.0, 1.0])[None, :].expand(4, 4).reshape(1, 16, 1)
    resized = resize_positions(step, old_grid=(4, 4), new_grid=(4, 8), prefix_tokens=0)
    assert resized.max() > 1.01
    assert resized.min() < -0.01
