"""Every verb of the command line as a function, for notebooks and scripts."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmae.errors import UserError
from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, Stage, find_recipe
from openmae.recipes.values import Pooling

if TYPE_CHECKING:
    from openmae.data.packing.reencoding import PackFormat

__all__ = ["check", "demo", "embed", "finetune", "knn", "linear", "pack", "pretrain", "reconstruct"]


def demo(*, out: str | Path = "runs/demo", seed: int = 0) -> dict[str, Any]:
    """Pre-train on the bundled images, measure the features beside an untrained twin, draw reconstructions."""
    from openmae.reporting.demo import run_demo

    return run_demo(Path(out), seed=seed)


def pretrain(recipe: str | PretrainRecipe, *, out: str | Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Pre-train by a recipe's name; any field of the recipe may be overridden: `data="photos/", epochs=100`.

    The same call on the same `out` continues a run that was stopped. `out` is `runs/NAME` when not given.
    """
    from openmae.training.pretraining import run_pretraining

    resolved = _resolve(recipe, "pretrain", overrides)
    assert isinstance(resolved, PretrainRecipe)
    return run_pretraining(resolved, default_out(resolved, out))


def linear(recipe: str | LinearRecipe, *, out: str | Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Linear evaluation by a recipe's name, with `weights=` and `data=`; `cached=True` takes seconds on small data."""
    from openmae.evaluation.protocols.linear import run_linear

    resolved = _resolve(recipe, "linear", overrides)
    assert isinstance(resolved, LinearRecipe)
    return run_linear(resolved, default_out(resolved, out))


def finetune(recipe: str | FinetuneRecipe, *, out: str | Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Fine-tune by a recipe's name, with `weights=` and `data=`."""
    from openmae.evaluation.protocols.finetune import run_finetune

    resolved = _resolve(recipe, "finetune", overrides)
    assert isinstance(resolved, FinetuneRecipe)
    return run_finetune(resolved, default_out(resolved, out))


def knn(
    *,
    weights: str | Path,
    data: str,
    labels: str | None = None,
    neighbours: int = 20,
    label_fraction: float = 1.0,
    pool: Pooling = "mean",
    untrained: bool = False,
    seed: int = 0,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, Any]:
    """Classify test images by their nearest labelled neighbours; leave-one-out when there is no test split."""
    from openmae.evaluation.protocols.knn import run_knn

    return run_knn(
        weights,
        data,
        labels=labels,
        neighbours=neighbours,
        label_fraction=label_fraction,
        pool=pool,
        untrained=untrained,
        seed=seed,
        devices=devices,
        nodes=nodes,
    )


def embed(
    *,
    weights: str | Path,
    data: str,
    out: str | Path,
    labels: str | None = None,
    batch_size: int = 256,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, int]:
    """Write one row of features per image to a Parquet file."""
    from openmae.evaluation.embedding import embed as write_embeddings

    return write_embeddings(
        weights,
        data,
        Path(out),
        labels=labels,
        batch_size=batch_size,
        devices=devices,
        nodes=nodes,
    )


def reconstruct(
    images: Sequence[str | Path] = (),
    *,
    weights: str | Path,
    out: str | Path,
    data: str | None = None,
    rows: int = 8,
    mask_ratio: float | None = None,
    seed: int = 0,
) -> Path:
    """Write a PNG that shows for each image: original, masked, reconstruction, reconstruction with visible patches.

    The images are files, or `rows` of the training images of a data set.
    """
    from openmae.data.sources import open_data
    from openmae.reporting.pictures import reconstruct as draw
    from openmae.reporting.pictures import reconstruct_sample

    if data is not None and images:
        raise UserError("image files and --data were both given; give one of them")
    if data is not None:
        source = open_data(data).train
        return reconstruct_sample(weights, source, Path(out), rows=rows, mask_ratio=mask_ratio, seed=seed)
    return draw(weights, [Path(image) for image in images], Path(out), mask_ratio=mask_ratio, seed=seed)


def pack(
    source: str,
    destination: str | Path,
    *,
    labels: str | None = None,
    short_side: int = 288,
    quality: int = 90,
    format: "PackFormat" = "auto",  # noqa: A002  # the name of the flag
    shard_size: int = 500,
    workers: int | None = None,
) -> dict[str, Any]:
    """Prepare a data set for speed: tar shards of images no larger than training needs, in the folder `destination`."""
    from openmae.data.packing import pack as write_shards
    from openmae.data.packing.reencoding import PackSettings
    from openmae.data.sources import open_data
    from openmae.data.workers import automatic_workers
    from openmae.reporter import ProgressView

    settings = PackSettings(short_side=short_side, quality=quality, format=format)
    data = open_data(source, labels=labels)
    images = sum(len(split) for split in data if split is not None)
    with ProgressView("packing", images) as view:
        return write_shards(
            data,
            str(destination),
            settings,
            source=source,
            shard_megabytes=shard_size,
            workers=automatic_workers() + 1 if workers is None else workers,
            show=lambda done: view.update(done, "packing", f"{done:,} of {images:,} images"),
        )


def check(
    data: str,
    *,
    labels: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Decode every image once: what is in this data set, what is broken. `out` is `runs/check-NAME` if not given."""
    from openmae.reporting.check import run_check

    return run_check(
        data,
        labels=labels,
        out=None if out is None else Path(out),
        workers=workers,
    )


def default_out(recipe: Recipe, out: str | Path | None) -> Path:
    """Where a run goes when nobody says."""
    return Path(out) if out is not None else Path("runs") / recipe.name


def _resolve(recipe: str | Recipe, stage: Stage, overrides: dict[str, Any]) -> Recipe:
    found = find_recipe(recipe, stage) if isinstance(recipe, str) else recipe
    known = {field.name for field in dataclasses.fields(found)}
    if unknown := sorted(set(overrides) - known):
        raise UserError(
            f"a {stage} recipe has no {', '.join(unknown)}; `openmae recipes {found.name}` prints its fields"
        )
    return dataclasses.replace(found, **overrides)
