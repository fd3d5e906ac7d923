"""Verbs that use finished weights without training: nearest neighbours, predictions and features."""

from pathlib import Path
from typing import Annotated

import tyro

from openmae.evaluation.results import EmbedResult, Measurement, PredictResult
from openmae.recipes.constraints import at_least
from openmae.recipes.recipe import SEED
from openmae.recipes.stages import LABEL_FRACTION
from openmae.recipes.values import Pooling
from openmae.verbs.verb import verb


@verb
def knn(
    *,
    weights: str | Path,
    data: str | Path,
    labels: str | Path | None = None,
    neighbours: Annotated[int, at_least(1), tyro.conf.arg(aliases=["-k"])] = 20,
    label_fraction: Annotated[float, LABEL_FRACTION] = 1.0,
    pool: Pooling = "mean",
    untrained: bool = False,
    seed: Annotated[int, SEED] = 0,
    devices: Annotated[int, at_least(1)] = 1,
    nodes: Annotated[int, at_least(1)] = 1,
) -> Measurement:
    """Classify test images by their nearest neighbours among the labelled ones, on frozen features.

    Nearness is cosine similarity. Without a test split each image is classified by all others (leave-one-out).

    Args:
        weights: A run folder, a checkpoint, a file or folder of fair, OpenMMLab, Hugging Face or timm, or an address:
            zoo:NAME (`openmae zoo` lists them), hf://owner/name, https://….
        data: A folder with one sub-folder per class, labelled Parquet or tar shards, or fashion-mnist.
        labels: A CSV file with the columns path and label, for images that are not in class folders.
        neighbours: Number of neighbours that vote.
        label_fraction: Use this share of the labels: a balanced subset drawn with the seed.
        pool: The class token, or the mean of the patch tokens.
        untrained: For comparison: measure the same network with fresh weights.
        seed: Seed of the subset. Fresh weights take the seed of their own recipe where it is known, else this one.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
    """
    from openmae.evaluation.protocols.knn import run_knn

    return run_knn(
        weights,
        str(data),
        labels=None if labels is None else str(labels),
        neighbours=neighbours,
        label_fraction=label_fraction,
        pool=pool,
        untrained=untrained,
        seed=seed,
        devices=devices,
        nodes=nodes,
    )


@verb
def predict(
    *,
    weights: str | Path,
    data: str | Path,
    out: str | Path | None = None,
    devices: Annotated[int, at_least(1)] = 1,
    nodes: Annotated[int, at_least(1)] = 1,
) -> PredictResult:
    """Name the classes of new images, with their probabilities, after finetune or linear.

    Every image of every split gets a row: path, split, label, probability, the next best (label_2, probability_2, …),
    and in error why it could not be read. After --task multilabel the row has the labels that are at least as likely as
    not, and the probability of each; after --task regression the number.

    Args:
        weights: The run folder of finetune or linear, or a classifier of fair, OpenMMLab, Hugging Face or timm: a path,
            zoo:NAME, hf://owner/name, https://….
        data: A folder of images, Parquet, tar shards, or fashion-mnist; labels are not needed.
        out: The .csv or .parquet file to write; when not given, the first ten rows are printed.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
    """
    from openmae.evaluation.predicting import predict as predict_images

    return predict_images(weights, str(data), out=None if out is None else Path(out), devices=devices, nodes=nodes)


@verb
def embed(
    *,
    weights: str | Path,
    data: str | Path,
    out: str | Path,
    labels: str | Path | None = None,
    batch_size: Annotated[int, at_least(1)] = 256,
    devices: Annotated[int, at_least(1)] = 1,
    nodes: Annotated[int, at_least(1)] = 1,
) -> EmbedResult:
    """Write the features of every image to a Parquet file.

    The columns are path, split, label, class, and the vectors cls (the class token) and mean (of the patch tokens).

    Args:
        weights: A run folder, a checkpoint, a file or folder of fair, OpenMMLab, Hugging Face or timm, or an address:
            zoo:NAME (`openmae zoo` lists them), hf://owner/name, https://….
        data: A folder of images, Parquet, tar shards, or fashion-mnist.
        out: The Parquet file to write.
        labels: A CSV file with the columns path and label, for images that are not in class folders.
        batch_size: Images encoded at once.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
    """
    from openmae.evaluation.embedding import embed as write_embeddings

    counts = write_embeddings(
        weights,
        str(data),
        Path(out),
        labels=None if labels is None else str(labels),
        batch_size=batch_size,
        devices=devices,
        nodes=nodes,
    )
    return {"images": counts["images"], "bad": counts["bad"], "out": str(out)}
