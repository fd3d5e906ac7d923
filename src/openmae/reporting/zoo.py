"""The table of published weights as people see it, for narrow and for wide terminals, and one row in full."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from openmae.recipes import RECIPES, PretrainRecipe, Recipe
from openmae.recipes.zoo import Kind, Publisher, Target, ZooEntry
from openmae.weights.fetching import ZOO_SCHEME, cached

if TYPE_CHECKING:
    from openmae.evaluation.published import PublishedCheck
    from openmae.reporting.results import Shown

WIDE = 159  # columns that the wide table takes
CACHED = "●"
PUBLISHED_IMAGES = 50_000
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
    cached_bytes: int | None
    """Size of what the cache has of it; None when that is nothing."""


class ZooDetails(ZooRow):
    """Everything about one row."""

    cached_at: str | None
    """Path of the file or folder in the cache."""

    image_size: int
    sha256: str
    """First digits; "" when unknown."""
    md5: str
    """First digits; "" when unknown."""
    note: str
    use: list[str]
    """How to come to weights and use them, in lines."""


class ZooLog(TypedDict):
    """A published log, written as a metrics.jsonl."""

    name: str
    lines: int
    left_out: int
    """Lines of the log that have no figures."""
    has_steps: bool
    """Whether the log says how many steps there were, and not only epochs."""
    out: str


def row_of(entry: ZooEntry) -> ZooRow:
    recipe = None if entry.recipe is None else RECIPES[entry.recipe]
    pretraining = None if entry.recipe is None else RECIPES["-".join(entry.recipe.split("-")[:3])]
    linear, finetuned = _figures(entry, recipe)
    here = cached(entry)
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
        "cached_bytes": None if here is None else here.size,
    }


def details_of(entry: ZooEntry) -> ZooDetails:
    here = cached(entry)
    return {
        **row_of(entry),
        "cached_at": None if here is None else str(here.path),
        "image_size": entry.image_size,
        "sha256": entry.sha256,
        "md5": entry.md5,
        "note": entry.note,
        "use": _use(entry),
    }


ZooResult: TypeAlias = "list[ZooRow] | ZooDetails | ZooLog | PublishedCheck"


def agrees(result: ZooResult) -> bool:
    """Whether a check found the published figure; True for all that is no check."""
    return isinstance(result, list) or "agrees" not in result or cast("PublishedCheck", result)["agrees"]


def show_zoo(result: ZooResult) -> "Iterator[Shown]":
    """All rows as a table; one row, or what was done with it, as lines."""
    if isinstance(result, list):
        yield ZooTable(result)
    elif "has_steps" in result:
        yield from _log_lines(cast(ZooLog, result))
    elif "agrees" in result:
        yield from _check_lines(cast("PublishedCheck", result))
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
    for heading in (
        "name",
        "backbone",
        "epochs",
        "linear",
        "fine-tuned",
        "holds",
        "config",
        "model",
        "log",
        "licence",
        "cached",
    ):
        numbers = heading in ("epochs", "linear", "fine-tuned", "cached")
        marked = heading in ("config", "model", "log")
        table.add_column(heading, justify="right" if numbers else "center" if marked else "left", no_wrap=True)
    for row, end in _with_ends(rows):
        marks = [_mark(row["config"]), _mark(row["model"]), _mark(row["log"])]
        epochs = str(row["epochs"] or "")
        figures = [f"{top1:g}" if top1 else "" for top1 in (row["linear_top1"], row["finetuned_top1"])]
        cells = [row["name"], row["backbone"], epochs, *figures, _holds(row), *marks, row["licence"] or ""]
        table.add_row(*cells, size_words(row["cached_bytes"]), end_section=end)
    return table


def _narrow(rows: Sequence[ZooRow]) -> Table:
    caption = _caption(f"; ep: epochs, lin: linear, ft: fine-tuned, c m l: config, model, log, {CACHED}: in the cache")
    table = Table(
        title="Published weights",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in ("name", "ViT", "ep", "lin", "ft", "holds", f"cml{CACHED}", "licence"):
        table.add_column(heading, justify="right" if heading in ("ep", "lin", "ft") else "left", no_wrap=True)
    for row, end in _with_ends(rows):
        marks = "".join(_mark(row[column]) for column in ("config", "model", "log"))
        figures = [f"{top1:g}" if top1 else "" for top1 in (row["linear_top1"], row["finetuned_top1"])]
        cells = [row["name"], _short(row["backbone"]), str(row["epochs"] or ""), *figures, _holds_shortly(row)]
        here = CACHED if row["cached_bytes"] else ""
        table.add_row(*cells, marks + here, row["licence"] or "", end_section=end)
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
    place = f"{ZOO_SCHEME}{entry.name}"
    lines = ["Its address serves as --weights; the first use downloads it into the cache:"]
    if entry.has_decoder:
        lines.append(f"  openmae reconstruct --weights {place} --out picture.png photo.jpg")
    return [
        *lines,
        f"  openmae embed --weights {place} --data photos/ --out features.parquet",
        f"  openmae zoo {entry.name} --fetch      to download it now, for a machine without a network",
        *([f"  openmae zoo {entry.name} --check --data IMAGENET"] if entry.kind == "finetuned" else []),
    ]


def _log_lines(result: ZooLog) -> Iterator[str]:
    yield f"{result['lines']:,} lines of {result['name']} written to {result['out']}"
    if result["left_out"]:
        yield f"left out: {result['left_out']:,} lines without a loss or an accuracy"
    if not result["has_steps"]:
        yield "the log does not say how many steps an epoch had: compare its curves by epoch"


def _check_lines(result: "PublishedCheck") -> Iterator[str]:
    verdict = "agrees with" if result["agrees"] else "differs from"
    yield (
        f"{result['name']}: top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %; {verdict} the published "
        f"{result['published_top1']:.2f} % ({result['difference']:+.2f}, tolerance {result['tolerance']:g})"
    )
    if result["images"] != PUBLISHED_IMAGES:
        yield (
            f"of {result['images']:,} images, not the {PUBLISHED_IMAGES:,} that the published figure is of: a part of "
            "them differs by chance"
        )
    if not result["synsets"]:
        yield "the classes are not named by synsets: if they are not in ImageNet's order, this figure means nothing"


def size_words(size: int | None) -> str:
    """A number of bytes for people; "" for None."""
    return "" if size is None else f"{size / 1e6:,.0f} MB"


def _here(details: ZooDetails) -> str:
    return f"{size_words(details['cached_bytes'])}, {details['cached_at']}" if details["cached_at"] else ""


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
        "in the cache": _here(details),
        "note": details["note"],
    }
    yield details["name"]
    yield from (f"  {name + ':':17} {value}" for name, value in values.items() if value)
    yield ""
    yield from details["use"]
