"""The table of published weights as people see it, for narrow and for wide terminals, and one row in full."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypedDict

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from openmae.recipes import RECIPES, PretrainRecipe, Recipe
from openmae.recipes.zoo import Kind, Publisher, Target, ZooEntry

if TYPE_CHECKING:
    from openmae.reporting.results import Shown

WIDE = 148  # columns that the wide table takes
HUB = "hf://"
PUBLISHERS: dict[Publisher, str] = {"mm": "OpenMMLab", "fair": "fair", "huggingface": "Hugging Face", "timm": "timm"}


class ZooRow(TypedDict):
    """A row of the table."""

    name: str
    publisher: Publisher
    backbone: str
    """timm's name."""
    epochs: int | None
    """Epochs of pre-training."""
    linear_top1: float | None
    """ImageNet-1k top-1 of linear evaluation in per cent."""
    finetuned_top1: float | None
    """The same after fine-tuning."""
    holds: Kind | None
    """Content of the file; None when there is no file."""
    target: Target | None
    """Target of its decoder; None without a decoder."""
    config: str | None
    """Our recipe."""
    model: str | None
    """Address of the weights."""
    log: str | None
    """Address of the training log."""
    licence: str | None
    """Of the weights; None when there is no file."""


class ZooDetails(ZooRow):
    """Everything about one row."""

    image_size: int
    sha256: str
    """First digits; "" when unknown."""
    md5: str
    """First digits; "" when unknown."""
    note: str
    use: list[str]
    """How to come to weights and use them, in lines."""


def row_of(entry: ZooEntry) -> ZooRow:
    recipe = None if entry.recipe is None else RECIPES[entry.recipe]
    pretraining = None if entry.recipe is None else RECIPES["-".join(entry.recipe.split("-")[:3])]
    linear, finetuned = _figures(entry, recipe)
    return {
        "name": entry.name,
        "publisher": entry.publisher,
        "backbone": entry.backbone,
        "epochs": None if pretraining is None else pretraining.epochs,
        "linear_top1": linear,
        "finetuned_top1": finetuned,
        "holds": entry.kind if entry.published else None,
        "target": entry.target if entry.published else None,
        "config": entry.recipe,
        "model": entry.url,
        "log": entry.log,
        "licence": entry.licence if entry.published else None,
    }


def details_of(entry: ZooEntry) -> ZooDetails:
    return {
        **row_of(entry),
        "image_size": entry.image_size,
        "sha256": entry.sha256,
        "md5": entry.md5,
        "note": entry.note,
        "use": _use(entry),
    }


def show_zoo(result: list[ZooRow] | ZooDetails) -> "Iterator[Shown]":
    """All rows as a table; one row as lines."""
    if isinstance(result, list):
        yield ZooTable(result)
    else:
        yield from _lines(result)


class ZooTable:
    """The table, with as many columns as the terminal has place for; rich renders it."""

    def __init__(self, rows: Sequence[ZooRow]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _wide(self.rows) if options.max_width >= WIDE else _narrow(self.rows)


def _wide(rows: Sequence[ZooRow]) -> Table:
    table = Table(title="Published weights", title_justify="left", caption_justify="left", caption=_caption(""))
    for heading in ("name", "backbone", "epochs", "linear", "fine-tuned", "holds", "config", "model", "log", "licence"):
        numbers = heading in ("epochs", "linear", "fine-tuned")
        marked = heading in ("config", "model", "log")
        table.add_column(heading, justify="right" if numbers else "center" if marked else "left", no_wrap=True)
    for row, end in _with_ends(rows):
        marks = [_mark(row["config"]), _mark(row["model"]), _mark(row["log"])]
        epochs = str(row["epochs"] or "")
        figures = [f"{top1:g}" if top1 else "" for top1 in (row["linear_top1"], row["finetuned_top1"])]
        cells = [row["name"], row["backbone"], epochs, *figures, _holds(row), *marks, row["licence"] or ""]
        table.add_row(*cells, end_section=end)
    return table


def _narrow(rows: Sequence[ZooRow]) -> Table:
    caption = _caption("; ep: epochs, lin: linear, ft: fine-tuned, c m l: config, model, log")
    table = Table(
        title="Published weights",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in ("name", "ViT", "ep", "lin", "ft", "holds", "c m l", "licence"):
        table.add_column(heading, justify="right" if heading in ("ep", "lin", "ft") else "left", no_wrap=True)
    for row, end in _with_ends(rows):
        marks = " ".join(_mark(row[column]) for column in ("config", "model", "log"))
        figures = [f"{top1:g}" if top1 else "" for top1 in (row["linear_top1"], row["finetuned_top1"])]
        cells = [row["name"], _short(row["backbone"]), str(row["epochs"] or ""), *figures, _holds_shortly(row)]
        table.add_row(*cells, marks, row["licence"] or "", end_section=end)
    return table


def _caption(more: str) -> str:
    return f"linear, fine-tuned: ImageNet-1k top-1, published{more}. `openmae zoo NAME` has the addresses."


def _with_ends(rows: Sequence[ZooRow]) -> Iterator[tuple[ZooRow, bool]]:
    """Each row, and whether a line comes below it: between OpenMMLab, fair, and the copies of fair's files."""
    for row, after in pairwise([*rows, None]):
        assert row is not None
        yield row, after is not None and after["publisher"] != row["publisher"] and row["publisher"] in ("mm", "fair")


def _mark(value: str | None) -> str:
    return "✓" if value else " "


def _short(backbone: str) -> str:
    """L/16 for vit_large_patch16_224."""
    _, size, patch, *_ = backbone.split("_")
    return f"{size[0].upper()}/{patch.removeprefix('patch')}"


def _holds(row: ZooRow) -> str:
    if row["target"] is not None:
        return f"decoder, {row['target']}"
    words: dict[Kind | None, str] = {"finetuned": "classifier", "linear": "linear probe", None: "not published"}
    return words.get(row["holds"], "encoder")


def _holds_shortly(row: ZooRow) -> str:
    if row["target"] is not None:
        return "dec. norm." if row["target"] == "normalised" else "dec. raw"
    return "" if row["holds"] is None else _holds(row)


def _figures(entry: ZooEntry, recipe: Recipe | None) -> tuple[float | None, float | None]:
    """Published top-1 of linear evaluation and of fine-tuning; they are of normalised targets, not of raw pixels."""
    if recipe is None or entry.target == "raw":
        return None, None
    if isinstance(recipe, PretrainRecipe):
        return recipe.published_linear_top1, recipe.published_top1
    top1 = entry.top1 or recipe.published_top1
    return (top1, None) if recipe.stage == "linear" else (None, top1)


def _use(entry: ZooEntry) -> list[str]:
    if entry.url is None:
        stage = "linear" if entry.kind == "linear" else "finetune"
        return [
            "The weights were not published. To train them:",
            f"  openmae {stage} {entry.recipe} --weights RUN --data IMAGENET --out RUN2",
        ]
    if entry.url.startswith(HUB):
        owner_name = entry.url.removeprefix(HUB)
        place = owner_name.rpartition("/")[2]
        fetch = f"  hf download {owner_name} --local-dir {place}"
    else:
        place = entry.url.rpartition("/")[2]
        fetch = f"  curl -LO {entry.url}"
    lines = [
        "Fetch the model's address with any tool, keep its name, and give it to --weights:",
        fetch,
    ]
    if entry.has_decoder:
        lines.append(f"  openmae reconstruct --weights {place} --out picture.png photo.jpg")
    return [*lines, f"  openmae embed --weights {place} --data photos/ --out features.parquet"]


def _lines(details: ZooDetails) -> Iterator[str]:
    figures = {"linear top-1": details["linear_top1"], "fine-tuned top-1": details["finetuned_top1"]}
    hashes = {"SHA-256 begins": details["sha256"], "MD5 begins": details["md5"]}
    values: dict[str, object] = {
        "published by": PUBLISHERS[details["publisher"]],
        "backbone": details["backbone"],
        "image size": details["image_size"],
        "epochs": details["epochs"],
        **figures,
        "holds": _holds(details),
        "config (recipe)": details["config"],
        "model": details["model"],
        "log": details["log"],
        **hashes,
        "licence": details["licence"],
        "note": details["note"],
    }
    yield details["name"]
    yield from (f"  {name + ':':17} {value}" for name, value in values.items() if value)
    yield ""
    yield from details["use"]
