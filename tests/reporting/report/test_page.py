"""What becomes of text in the page and in the summary."""

import pytest

from openmae.reporting.report.page import chart_library, escape_markdown, fenced


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, 5 % (yes).", "plain text, 5 % (yes)."),
        ("<img src=x>", "\\<img src=x\\>"),
        ("a|b_c*d`e", "a\\|b\\_c\\*d\\`e"),
        ("[x](http://y)", "\\[x\\](http://y)"),
        ("# title\n- item", "\\# title - item"),
        ("81.2", "81.2"),
        ("@somebody #12", "@<!-- -->somebody #<!-- -->12"),
    ],
)
def test_text_of_strangers_has_no_meaning_in_markdown(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


def test_nothing_ends_a_block_of_code() -> None:
    assert fenced("a```b") == "````\na```b\n````"


def test_the_charts_library_cannot_end_the_element_that_it_stands_in() -> None:
    assert "</script" not in chart_library().lower()
    assert "window.vegaEmbed" in chart_library()
