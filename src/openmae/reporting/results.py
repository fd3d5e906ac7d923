"""The results of the verbs as people see them: lines of text, and tables."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from rich.console import RenderableType
from rich.table import Table

from openmae.evaluation.results import EmbedResult
from openmae.recipes import Recipe, Stage, find_recipe
from openmae.recipes.saved import to_yaml
from openmae.training.results import PretrainResult
from openmae.weights.results import Conversion

if TYPE_CHECKING:
    from openmae.data.packing import PackResult
    from openmae.reporting.check import CheckResult
    from openmae.reporting.demo import DemoResult
    from openmae.reporting.plan.result import PlanResult
    from openmae.reporting.report.writing import ReportResult
    from openmae.reporting.run_table import RunSummary

Shown: TypeAlias = "str | RenderableType"
"""Text is printed as it is, anything else by rich."""


class RecipeSummary(TypedDict):
    """A recipe in the list of all."""

    name: str
    stage: Stage
    backbone: str
    epochs: int
    batch_size: int
    follows: str
    published_top1: float | None


def summary(recipe: Recipe) -> RecipeSummary:
    return {
        "name": recipe.name,
        "stage": recipe.stage,
        "backbone": recipe.backbone,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "follows": recipe.follows,
        "published_top1": recipe.published_top1,
    }


def show_values(result: Any) -> Iterator[Shown]:
    """Any result: a name and a value on each line, or the value alone."""
    if isinstance(result, Mapping):
        yield from (f"{name}: {value}" for name, value in result.items())
    elif result is not None:
        yield str(result)


def show_pretraining(result: PretrainResult) -> Iterator[Shown]:
    yield f"final loss {result['loss']:.4f}, {result['images_per_second']:.0f} images/s"
    yield from _run_folder(result)


def show_embedding(result: EmbedResult) -> Iterator[Shown]:
    yield f"{result['images']:,} images written to {result['out']}, {result['bad']:,} could not be decoded"


def show_pack(result: "PackResult") -> Iterator[Shown]:
    left_out = f", {result['bad']:,} left out (bad_images.jsonl says why)" if result["bad"] else ""
    rates = result["images_per_second"]
    yield f"{result['images']:,} images packed in {result['seconds']:.0f} seconds{left_out}"
    yield f"{result['bytes_before'] / 1e6:,.1f} MB before, {result['bytes_after'] / 1e6:,.1f} MB after"
    yield (
        f"decoding and cropping: {rates['source']:,.0f} images/s before, {rates['packed']:,.0f} after, "
        f"{result['speedup']:.1f} times as fast"
    )
    yield f"use it with --data {result['out']}"


def show_conversion(result: Conversion) -> Iterator[Shown]:
    yield f"{result['tensors']} tensors of {result['source']} written for {result['target']}: {result['out']}"
    if result["dropped"]:
        yield f"left out: {', '.join(result['dropped'])}"
    if result["target"] == "onnx":
        yield f"inputs:  {'; '.join(result['inputs'])}"
        yield f"outputs: {'; '.join(result['outputs'])}"
        yield f"in {result['checked_with']} the outputs differ by at most {result['largest_difference']:.2g}"
        return
    if result["not_said"]:
        yield (
            f"the file does not say: {', '.join(result['not_said'])}; tell whoever reads it (for "
            "--weights by a config.json, see docs/weights.md)"
        )
    if result["largest_difference"] is None:
        yield "read back, every bit is the same; its library did not run it: only the round trip was checked"
    else:
        yield (
            f"read back, every bit is the same; in {result['checked_with']} the outputs differ by at most "
            f"{result['largest_difference']:.2g}"
        )
    if result["url"] is not None:
        yield f"uploaded to {result['url']}"


def show_check(result: "CheckResult") -> Iterator[Shown]:
    from openmae.reporting.check import check_report

    yield check_report(result)


def show_report(result: "ReportResult") -> Iterator[Shown]:
    for missing in result["missing"]:
        yield f"not in it: {missing['what']}\n  {missing['command']}"
    yield f"report: {result['path']} ({result['bytes'] / 1e6:.1f} MB), and {result['markdown']}"


def show_plan(result: "PlanResult") -> Iterator[Shown]:
    from openmae.reporting.plan.table import show_plan

    yield from show_plan(result)


def show_demo(result: "DemoResult") -> Iterator[Shown]:
    from openmae.reporting.demo import demo_table

    yield demo_table(result)
    yield f"reconstructions: {result['picture']}"
    yield f"run folder:      {result['run']}"
    yield f"report:          {result['report']}"
    yield f"{result['seconds']:.0f} seconds"


def show_watched(result: list[dict[str, Any]]) -> Iterator[Shown]:
    from openmae.reporting.watching import Frames
    from openmae.terminal.panel import Frame

    yield Frames([Frame(**frame) for frame in result], whole=True)


def show_runs(result: "list[RunSummary]") -> Iterator[Shown]:
    from openmae.reporting.run_table import RunsTable

    yield RunsTable(result)


def show_recipes(result: list[RecipeSummary] | dict[str, Any]) -> Iterator[Shown]:
    """The list of all as a table; one recipe as YAML."""
    yield _table(result) if isinstance(result, list) else to_yaml(find_recipe(result["name"])).removesuffix("\n")


def _run_folder(result: Mapping[str, Any]) -> Iterable[str]:
    return [f"run folder: {result['out']}"] if "out" in result else []


def _table(recipes: list[RecipeSummary]) -> Table:
    table = Table(
        title="Recipes", title_justify="left", caption="top-1: ImageNet-1k, published; of pretrain after fine-tuning"
    )
    for heading in ("name", "stage", "epochs", "batch", "follows", "top-1"):
        numbers = heading in ("epochs", "batch", "top-1")
        table.add_column(heading, justify="right" if numbers else "left", no_wrap=True)
    for recipe, after in zip(recipes, [*recipes[1:], None], strict=True):
        top1 = recipe["published_top1"]
        table.add_row(
            *(recipe["name"], recipe["stage"], str(recipe["epochs"]), str(recipe["batch_size"]), recipe["follows"]),
            f"{top1:g}" if top1 else "",
            end_section=after is not None and after["stage"] == "pretrain" and recipe["stage"] != "pretrain",
        )
    return table
