import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.recipes.values import Every, ImageSize


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("224x448", (224, 448)), ("32X64", (32, 64)), ("1", (1, 1))]
)
def test_an_image_size_is_one_side_or_height_by_width(text: str, size: tuple[int, int]) -> None:
    parsed = ImageSize.parse(text)
    assert parsed == size
    assert (parsed.height, parsed.width) == size


@pytest.mark.parametrize("text", ["", "x", "0", "224x", "x224", "224x0", "-3", "2.5", "1x2x3", "big", "[224, 224]"])
def test_what_is_no_image_size_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an image size; write 224, or 224x448 for height x width$"):
        ImageSize.parse(text)


@settings(deadline=None)
@given(height=st.integers(1, 10_000), width=st.integers(1, 10_000))
def test_an_image_size_reads_back_what_it_prints(height: int, width: int) -> None:
    size = ImageSize(height, width)
    assert ImageSize.parse(str(size)) == size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5min", Every(5.0, "min")),
        ("0min", Every(0.0, "min")),
        ("0.5 minutes", Every(0.5, "min")),
        ("1step", Every(1.0, "steps")),
        ("200 Steps", Every(200.0, "steps")),
        ("1epoch", Every(1.0, "epochs")),
    ],
)
def test_how_often_is_a_number_and_a_unit(text: str, expected: Every) -> None:
    assert Every.parse(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5h", "min", "-5min", "0steps", "1e3steps", f"{'9' * 400}min"])
def test_what_does_not_say_how_often_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not say how often; write 5min, 200steps or 1epoch$"):
        Every.parse(text)


@pytest.mark.parametrize(
    ("every", "text"),
    [
        (Every(10, "min"), "10min"),
        (Every(0.5, "epochs"), "0.5epochs"),
        (Every(1234567, "steps"), "1234567steps"),
        (Every(1e-7, "min"), "0.0000001min"),
    ],
)
def test_how_often_prints_every_digit_and_reads_back(every: Every, text: str) -> None:
    assert str(every) == text
    assert Every.parse(text) == every
