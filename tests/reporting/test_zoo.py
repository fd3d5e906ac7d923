"""The table of published weights on terminals of any width, and a row in full."""

import pytest
from rich.console import Console

from openmae.errors import UserError
from openmae.recipes.zoo import ENTRIES, ZOO, find_published
from openmae.reporting.zoo import WIDE, ZooTable, details_of, row_of, show_zoo

ROWS = [row_of(entry) for entry in ENTRIES]


def rendered(width: int) -> list[str]:
    console = Console(width=width, record=True, file=None, quiet=False, color_system=None)
    with console.capture() as captured:
        console.print(ZooTable(ROWS))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, WIDE - 1, WIDE, 160, 200])
def test_the_table_fits_every_terminal_and_cuts_nothing_off(width: int) -> None:
    lines = rendered(width)
    assert max(map(len, lines)) <= width
    assert "…" not in "\n".join(lines)
    for row in ROWS:
        assert sum(row["name"] in line.split() for line in lines) == 1
        line = next(line for line in lines if row["name"] in line.split())
        assert line.count("✓") == sum(map(bool, (row["config"], row["model"], row["log"])))
        if row["licence"]:
            assert row["licence"] in line


def test_a_wide_terminal_has_a_column_for_config_model_and_log() -> None:
    assert {"config", "model", "log"} <= set(rendered(160)[2].split())
    assert "config, model, log" in " ".join(" ".join(rendered(80)).split())


@pytest.mark.parametrize(
    ("name", "epochs", "linear", "finetuned", "holds"),
    [
        ("vit-b16-300e-mm", 300, 60.8, 83.1, "autoencoder"),
        ("vit-b16-300e-linear-mm", 300, 60.8, None, None),
        ("vit-h14-1600e-finetune-448-mm", 1600, None, 87.3, "finetuned"),
        ("vit-l16-1600e-fair", 1600, 76.0, 85.95, "encoder"),
        ("vit-l16-1600e-fair-pixels", 1600, None, None, "autoencoder"),
        ("vit-l16-1600e-huggingface", 1600, None, None, "autoencoder"),
        ("vit-l16-fair-pixels-gan", None, None, None, "autoencoder"),
    ],
)
def test_a_row_has_the_figures_of_its_recipe(
    name: str, epochs: int | None, linear: float | None, finetuned: float | None, holds: str | None
) -> None:
    row = row_of(find_published(name))
    assert (row["epochs"], row["linear_top1"], row["finetuned_top1"], row["holds"]) == (
        epochs,
        linear,
        finetuned,
        holds,
    )


@pytest.mark.parametrize("name", ZOO)
def test_a_row_in_full_has_its_addresses_and_says_how_to_use_it(name: str) -> None:
    entry = ZOO[name]
    text = "\n".join(map(str, show_zoo(details_of(entry))))
    for value in (entry.url, entry.log, entry.recipe, entry.sha256, entry.md5, entry.note):
        assert not value or value in text
    assert "--weights" in text
    assert (f"licence:          {entry.licence}" in text) == entry.published
    assert ("openmae reconstruct" in text) == (entry.published and entry.has_decoder)
    assert ("not published" in text) == (not entry.published)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean vit-b16-1600e-mm"):
        find_published("vit-b16-1600-mm")
