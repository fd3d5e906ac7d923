import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.recipes.values import ImageSize


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
