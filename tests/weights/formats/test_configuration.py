from pathlib import Path
from typing import Any

import pytest

from openmae.weights.formats.configuration import numbers, positive, sides

FILE = Path("f.pth")


@pytest.mark.parametrize(
    ("value", "expected"), [(224, (224, 224)), ([224, 448], (224, 448)), ((8, 4), (8, 4)), (None, None)]
)
def test_image_sizes_of_configurations_are_read(value: Any, expected: tuple[int, int] | None) -> None:
    assert sides(value, "img_size", FILE) == expected


@pytest.mark.parametrize("value", [0, -1, "224", [224], [1, 2, 3], 2.5, True, [2**30, 1], {}])
def test_other_image_sizes_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"img_size is .* in the configuration of f\.pth; correct it"):
        sides(value, "img_size", FILE)


@pytest.mark.parametrize("value", [0, -3, 2.0, "3", True, [3], 10**30])
def test_numbers_that_count_nothing_are_refused(value: Any) -> None:
    assert positive({"heads": 3}, "heads", FILE) == 3
    assert positive({}, "heads", FILE) is None
    with pytest.raises(ValueError, match=r"heads is .* in the configuration of f\.pth; correct it to a number above 0"):
        positive({"heads": value}, "heads", FILE)


@pytest.mark.parametrize("value", [0.5, "0.5", [0.5, "x"], [True], {}, [10**400], [float("nan")], [float("inf")]])
def test_statistics_that_are_no_numbers_are_refused(value: Any) -> None:
    assert numbers({"mean": [0, 0.5]}, "mean", FILE) == (0.0, 0.5)
    assert numbers({}, "mean", FILE) is None
    with pytest.raises(ValueError, match=r"mean is .* in the configuration of f\.pth; correct it to numbers"):
        numbers({"mean": value}, "mean", FILE)
