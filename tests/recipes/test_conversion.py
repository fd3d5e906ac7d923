from collections.abc import Sequence
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch

from openmae.errors import UserError
from openmae.recipes.constraints import (
    BETWEEN_0_AND_1,
    NO_EFFECT_ON_RESULTS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    at_least,
    at_most,
)
from openmae.recipes.conversion import convert, flag
from openmae.recipes.values import Every, ImageSize


class Colour(StrEnum):
    RED = "red"


class Count(IntEnum):
    TWO = 2


ACCEPTED: list[tuple[Any, object, Any]] = [
    (int, 3, 3),
    (int, np.int64(3), 3),
    (int, torch.tensor(3), 3),
    (int, Count.TWO, 2),
    (int | None, None, None),
    (float, 3, 3.0),
    (float, 0.5, 0.5),
    (float, np.float32(0.5), 0.5),
    (float, np.float64(0.5), 0.5),
    (float, Fraction(1, 2), 0.5),
    (float, "1e-3", 0.001),
    (float | None, 2, 2.0),
    (bool, True, True),
    (bool, np.bool_(False), False),
    (str, "a", "a"),
    (str, Path("a/b"), "a/b"),
    (str, np.str_("a"), "a"),
    (str, Colour.RED, "red"),
    (str | None, Path("a"), "a"),
    (str | None, None, None),
    (Path, "a/b", Path("a/b")),
    (Path | None, Path("a"), Path("a")),
    (str | Path, "a", "a"),
    (str | Path, Path("a"), Path("a")),
    (Path | str, "a", "a"),
    (Literal["red", "blue"], "red", "red"),
    (Literal["red", "blue"], Colour.RED, "red"),
    (Literal["red", "blue"] | None, None, None),
    (tuple[float, ...], [1, 0.5], (1.0, 0.5)),
    (tuple[float, ...], np.array([1.0, 0.5]), (1.0, 0.5)),
    (tuple[float, ...], [np.float32(0.5)], (0.5,)),
    (tuple[float, ...], torch.tensor([1.0, 0.5]), (1.0, 0.5)),
    (tuple[float, ...], [], ()),
    (tuple[float, float], (1, 2), (1.0, 2.0)),
    (tuple[Path, ...], ["a", Path("b")], (Path("a"), Path("b"))),
    (Sequence[str | Path], ["a", Path("b")], ("a", Path("b"))),
    (Sequence[str | Path], (name for name in ("a", "b")), ("a", "b")),
    (ImageSize, 64, ImageSize(64, 64)),
    (ImageSize, "64", ImageSize(64, 64)),
    (ImageSize, "32x64", ImageSize(32, 64)),
    (ImageSize, (32, 64), ImageSize(32, 64)),
    (ImageSize, [32, 64], ImageSize(32, 64)),
    (ImageSize, np.array([32, 64]), ImageSize(32, 64)),
    (ImageSize, ImageSize(32, 64), ImageSize(32, 64)),
    (ImageSize | None, [32, 64], ImageSize(32, 64)),
    (Every, "5min", Every(5.0, "min")),
    (Every, "200 steps", Every(200.0, "steps")),
    (Every, Every(5, "min"), Every(5.0, "min")),
    (Annotated[int, at_least(1)], 1, 1),
    (Annotated[int | None, at_least(1)], None, None),
    (Annotated[int, at_least(1)] | None, 2, 2),
    (Annotated[float, POSITIVE, at_most(2), NO_EFFECT_ON_RESULTS, "other metadata"], 2, 2.0),
    (Annotated[tuple[float, ...], SHARE], [0, 1], (0.0, 1.0)),
    (tuple[Annotated[float, SHARE], ...], [0, 1], (0.0, 1.0)),
    (Fraction, Fraction(1, 2), Fraction(1, 2)),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), ACCEPTED)
def test_a_value_becomes_the_declared_type(annotation: Any, value: object, expected: Any) -> None:
    converted = convert("--name", value, annotation)
    assert converted == expected
    assert type(converted) is type(expected)
    if isinstance(expected, tuple):
        assert [type(part) for part in converted] == [type(part) for part in expected]


REFUSED: list[tuple[Any, object, str]] = [
    (int, True, "a whole number, not True"),
    (int, 3.0, "a whole number, not 3.0"),
    (int, "3", "a whole number, not '3'"),
    (int, None, "a whole number, not None"),
    (int, 2**63, f"a whole number, not {2**63}"),
    (int | None, "x" * 1000, f"a whole number or None, not '{'x' * 99}…"),
    (float, False, "a number, not False"),
    (float, "0.5", "a number, not '0.5'"),
    (float, float("nan"), "a number, not nan"),
    (float, float("inf"), "a number, not inf"),
    (float, "1e999", "a number, not '1e999'"),
    (float, 10**400, f"a number, not {'1' + '0' * 99}…"),
    (bool, "yes", "true or false, not 'yes'"),
    (bool, 1, "true or false, not 1"),
    (str, 3, "text, not 3"),
    (str, b"a", "text, not b'a'"),
    (str | None, True, "text or None, not True"),
    (Path, 3, "a path, not 3"),
    (str | Path | None, 3, "a path or None, not 3"),
    (Literal["red", "blue"], "green", "red or blue, not 'green'"),
    (Literal["red", "blue", "green"] | None, 1, "one of red, blue, green or None, not 1"),
    (Literal[1, 2], True, "1 or 2, not True"),
    (tuple[float, ...], 0.5, "a list of numbers, not 0.5"),
    (tuple[float, ...], "12", "a list of numbers, not '12'"),
    (tuple[float, ...], [0.5, "b"], "a list of numbers, not [0.5, 'b']"),
    (tuple[float, ...], {0.5}, "a list of numbers, not {0.5}"),
    (tuple[float, float], [1, 2, 3], "a list of 2 numbers, not [1, 2, 3]"),
    (tuple[Path, ...], "a.png", "a list of paths, not 'a.png'"),
    (Sequence[str | Path], Path("a.png"), "a list of paths, not PosixPath('a.png')"),
    *(
        (ImageSize, value, f"an image size (224, or 224x448 for height x width), not {value!r}")
        for value in (0, -3, True, 64.0, "64x", "x", "", "²", None, (32,), (32, 0), (32, 64.5), (1, 2, 3), ["3", "4"])
    ),
    *(
        (Every, value, f"a time or a count such as 5min, 200steps or 1epoch, not {value!r}")
        for value in (5, "5", "5h", "0steps", "", None, (5, "min"), Every(-1, "min"), Every(float("nan"), "steps"))
    ),
    (Fraction, 0.5, "a Fraction, not 0.5"),
]


@pytest.mark.parametrize(("annotation", "value", "sentence"), REFUSED)
def test_a_value_of_another_type_is_one_sentence_with_the_flag_and_what_it_takes(
    annotation: Any, value: object, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        convert(flag("some_name"), value, annotation)
    assert str(error.value) == f"--some-name must be {sentence}"


def test_a_whole_number_that_python_does_not_print_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--epochs must be a whole number, not that$"):
        convert("--epochs", 10**5000, int)


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (Annotated[int, at_least(1)], 0, "be at least 1, not 0"),
        (Annotated[int | None, at_most(3)], 4, "be at most 3, not 4"),
        (Annotated[int, at_least(1)] | None, 0, "be at least 1, not 0"),
        (Annotated[float, POSITIVE], 0, "be greater than 0, not 0.0"),
        (Annotated[float, NOT_NEGATIVE], -1e-9, "be 0 or greater, not -1e-09"),
        (Annotated[float, BETWEEN_0_AND_1], 1.0, "lie between 0 and 1, not 1.0"),
        (Annotated[float, at_least(0), at_most(3)], 4, "be at most 3, not 4.0"),
        (Annotated[tuple[float, float], SHARE], [0.5, 2], "lie in 0 … 1, not (0.5, 2.0)"),
        (Annotated[float, Range(words="be odd", high=0, hint="ask a friend")], 1, "be odd, not 1.0; ask a friend"),
    ],
)
def test_a_number_out_of_its_range_is_one_sentence_with_the_flag_and_the_range(
    annotation: Any, value: object, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        convert("--name", value, annotation)
    assert str(error.value) == f"--name must {sentence}"


@pytest.mark.parametrize("annotation", [str, str | None, bool, int | str, tuple[str, ...], Literal["a"], Path, Every])
@pytest.mark.parametrize("value", [None, "a", 3])
def test_a_range_beside_a_type_without_numbers_is_our_mistake_and_fails_whatever_the_value(
    annotation: Any, value: object
) -> None:
    with pytest.raises(TypeError, match="has a range, but is declared as"):
        convert("--name", value, Annotated[annotation, at_least(1)])


@pytest.mark.parametrize("annotation", [dict[str, int], "int", list[int]])
def test_a_type_that_cannot_be_checked_is_our_mistake(annotation: Any) -> None:
    with pytest.raises(TypeError, match="--name is declared as"):
        convert("--name", {}, annotation)
