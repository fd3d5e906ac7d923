"""Fixed position tables and their resizing."""

from hashlib import sha256
from itertools import product
from math import cos, prod, sin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("width", "grid", "order", "expected"),
    [
        (768, (14, 14), "column-first", "ab536b7cb5ba1a0baf03e2b19d22ce2e13eafe5a5d5d18239477d41cef56f091"),
        (768, (14, 14), "row-first", "690c38071a4f38eccfd1de529d363c90e2b5198628dae669aa487f4fd66d6041"),
        (48, (3, 5), "column-first", "f626e1bdb97dd2b7433a53b28bdb238945e235cb68bfb8a7a15ac4fb1a945ea1"),
        (48, (3, 5), "row-first", "b917eca0ac98ecfb88ba02502886b42140c515f1e2e61db5e2b6956638908508"),
    ],
)
def test_the_table_of_two_axes_is_the_one_that_weights_were_trained_with(
    width: int, grid: tuple[int, int], order: AxisOrder, expected: str
) -> None:
    # Computed by version 0.1.0, which knew two axes only.
    table = sincos_positions(width, grid, prefix_tokens=1, axis_order=order)
    assert sha256(table.numpy().tobytes()).hexdigest() == expected


def test_values_of_one_axis_by_hand() -> None:
    # Width 4 has D/2 = 2 frequencies: 1 and 0.01.
    expected = [[sin(x), sin(0.01 * x), cos(x), cos(0.01 * x)] for x in range(3)]
    for order in _orders():
        found = sincos_positions(4, (3,), axis_order=order)
        torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


def test_values_of_three_axes_by_hand() -> None:
    # Width 6 has one frequency for each axis. The grid's row-major order lets the last axis run fastest.
    places = list(product(range(2), range(1), range(3)))
    column_first = [[sin(x), cos(x), sin(y), cos(y), sin(z), cos(z)] for z, y, x in places]
    row_first = [[sin(z), cos(z), sin(y), cos(y), sin(x), cos(x)] for z, y, x in places]
    for order, expected in (("column-first", column_first), ("row-first", row_first)):
        found = sincos_positions(6, (2, 1, 3), axis_order=order)  # type: ignore[arg-type]
        torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize(
    ("width", "shares"),
    [
        (192, (64, 64, 64)),
        (384, (128, 128, 128)),
        (768, (256, 256, 256)),
        (1024, (342, 342, 340)),
        (1280, (428, 426, 426)),
        (512, (172, 170, 170)),
    ],
)
def test_three_axes_share_the_channels_of_every_vit_and_each_is_encoded_as_if_alone(
    width: int, shares: tuple[int, int, int]
) -> None:
    grid = (4, 3, 5)
    for order, axes in (("column-first", (2, 1, 0)), ("row-first", (0, 1, 2))):
        table = sincos_positions(width, grid, axis_order=order)[0].reshape(*grid, width)  # type: ignore[arg-type]
        for axis, part in zip(axes, torch.split(table, list(shares), dim=-1), strict=True):
            along = [grid[axis] if other == axis else 1 for other in range(3)]
            alone = sincos_positions(part.shape[-1], (grid[axis],))[0].reshape(*along, -1)
            assert torch.equal(part, alone.expand_as(part))


GRIDS = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, twelfths=st.integers(1, 4), order=st.sampled_from(["column-first", "row-first"]))
def test_every_place_of_any_grid_has_its_own_position_of_the_same_length(
    grid: tuple[int, ...], twelfths: int, order: AxisOrder
) -> None:
    width = 12 * twelfths
    table = sincos_positions(width, grid, axis_order=order)[0].double()
    assert table.shape == (prod(grid), width)
    distances = torch.cdist(table, table) + torch.eye(len(table))
    assert distances.min() > 0.01
    # sin² + cos² = 1 for each pair, so that no place stands out.
    torch.testing.assert_close(table.square().sum(dim=1), torch.full((len(table),), width / 2, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, data=st.data())
def test_similarity_of_two_positions_depends_on_their_offset_only(grid: tuple[int, ...], data: st.DataObject) -> None:
    # sin a sin b + cos a cos b = cos(a - b): only the distance along each axis counts.
    table = sincos_positions(24, grid)[0].double().reshape(*grid, 24)
    place, other = (tuple(data.draw(st.integers(0, side - 1)) for side in grid) for _ in range(2))
    origin = tuple(min(a, b) for a, b in zip(place, other, strict=True))
    moved = [tuple(a - b for a, b in zip(at, origin, strict=True)) for at in (place, other)]
    torch.testing.assert_close(table[place] @ table[other], table[moved[0]] @ table[moved[1]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "axes", "message"),
    [
        (7, 1, "a width that 2 divides, not 7; use 8"),
        (18, 2, "a width that 4 divides, not 18; use 20"),
        (1023, 3, "an even width of at least 6, not 1023; use 1024"),
        (2, 3, "an even width of at least 6, not 2; use 6"),
    ],
)
def test_width_that_the_axes_cannot_share_is_refused_with_one_that_fits(width: int, axes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sincos_positions(width, (2,) * axes)
    assert sincos_positions(int(message.split()[-1]), (2,) * axes).shape[1] == 2**axes


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


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("old", "new"), [((5,), (8,)), ((8,), (3,)), ((3, 4, 5), (6, 2, 7))])
def test_resizing_one_or_three_axes_keeps_the_prefix_rows_and_each_axis_to_itself(
    old: tuple[int, ...], new: tuple[int, ...], prefix: int
) -> None:
    # One channel rises along each axis.
    ramps = torch.meshgrid(*(torch.linspace(0, 1, side) for side in old), indexing="ij")
    table = torch.cat([torch.randn(1, prefix, len(old)), torch.stack(ramps, dim=-1).reshape(1, -1, len(old))], dim=1)
    resized = resize_positions(table, old_grid=old, new_grid=new, prefix_tokens=prefix)
    assert resized.shape == (1, prefix + prod(new), len(old))
    assert torch.equal(resized[:, :prefix], table[:, :prefix])
    for axis, channel in enumerate(resized[0, prefix:].reshape(*new, -1).unbind(-1)):
        lines = channel.movedim(axis, -1).reshape(-1, new[axis])
        torch.testing.assert_close(lines, lines[:1].expand_as(lines))
        assert (lines.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("old", "new"), [((4, 6), (8, 3)), ((5, 5), (7, 9))])
def test_resizing_a_plane_of_a_volume_is_resizing_the_plane(
    old: tuple[int, int], new: tuple[int, int], axis: int
) -> None:
    table = torch.randn(1, 1 + prod(old), 8)
    plane = resize_positions(table, old_grid=old, new_grid=new, prefix_tokens=1)
    thin, new_thin = (tuple(insert_one(grid, axis)) for grid in (old, new))
    volume = resize_positions(table, old_grid=thin, new_grid=new_thin, prefix_tokens=1)
    torch.testing.assert_close(volume, plane)


def insert_one(grid: tuple[int, int], axis: int) -> list[int]:
    sides = list(grid)
    sides.insert(axis, 1)
    return sides


def test_resizing_keeps_the_precision_of_the_table() -> None:
    for grids in (((3,), (5,)), ((3, 3), (5, 5)), ((3, 3, 3), (5, 5, 5))):
        table = torch.randn(1, 1 + prod(grids[0]), 4, dtype=torch.bfloat16)
        resized = resize_positions(table, old_grid=grids[0], new_grid=grids[1], prefix_tokens=1)
        assert resized.dtype == torch.bfloat16


def test_resizing_to_a_grid_of_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="a grid with 2 axes cannot be resized to one with 3; use a grid with as many"):
        resize_positions(torch.zeros(1, 4, 8), old_grid=(2, 2), new_grid=(2, 2, 2), prefix_tokens=0)
