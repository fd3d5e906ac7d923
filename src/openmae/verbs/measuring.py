"""Verbs that use finished weights without training: nearest neighbours, predictions and features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from openmae.evaluation.results import EmbedResult, Measurement, PredictResult
from openmae.recipes.constraints import PORT, at_least
from openmae.recipes.recipe import SEED
from openmae.recipes.stages import LABEL_FRACTION
from openmae.recipes.values import Pages, PixelRange, Places, Pooling, as_text
from openmae.verbs.verb import verb


@verb
def knn(
    *,
    weights: str | Path,
    data: Places,
    labels: str | Path | None = None,
    split: str | None = None,
    train_split: str | None = None,
    neighbours: Annotated[int, at_least(1), tyro.conf.arg(aliases=["-k"])] = 20,
    label_fraction: Annotated[float, LABEL_FRACTION] = 1.0,
    pool: Pooling = "mean",
    untrained: bool = False,
    seed: Annotated[int, SEED] = 0,
    pages: Pages | None = None,
    max_pixels: Annotated[int | None, at_least(1)] = None,
    pixel_range: PixelRange | None = None,
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
        split: The split to measure on; test when not given, else val, the first that has labels.
        train_split: The split of the labelled images to vote; train when not given.
        neighbours: Number of neighbours that vote.
        label_fraction: Use this share of the labels: a balanced subset drawn with the seed.
        pool: The class token, or the mean of the patch tokens.
        untrained: For comparison: measure the same network with fresh weights.
        seed: Seed of the subset. Fresh weights take the seed of their own recipe where it is known, else this one.
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            as the weights were trained when not given.
        max_pixels: Images with more pixels are refused; 200,000,000 when not given.
        pixel_range: The numbers in the images that are black and white, where these have another range than the images
            that the weights were trained on; as the type of the images says when not given.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
    """
    from openmae.evaluation.protocols.knn import run_knn

    return run_knn(
        weights,
        as_text(data),
        labels=None if labels is None else str(labels),
        split=split,
        train_split=train_split,
        neighbours=neighbours,
        label_fraction=label_fraction,
        pool=pool,
        untrained=untrained,
        seed=seed,
        pages=pages,
        max_pixels=max_pixels,
        pixel_range=pixel_range,
        devices=devices,
        nodes=nodes,
    )


@verb
def predict(
    *,
    weights: str | Path,
    data: Places,
    out: str | Path | None = None,
    pages: Pages | None = None,
    max_pixels: Annotated[int | None, at_least(1)] = None,
    pixel_range: PixelRange | None = None,
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
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            as the weights were trained when not given.
        max_pixels: Images with more pixels are refused; 200,000,000 when not given.
        pixel_range: The numbers in the images that are black and white, where these have another range than the images
            that the weights were trained on; as the type of the images says when not given.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
    """
    from openmae.evaluation.predicting import predict as predict_images

    return predict_images(
        weights,
        as_text(data),
        out=None if out is None else Path(out),
        pages=pages,
        max_pixels=max_pixels,
        pixel_range=pixel_range,
        devices=devices,
        nodes=nodes,
    )


@verb
def embed(
    *,
    weights: str | Path,
    data: Places,
    out: str | Path,
    labels: str | Path | None = None,
    batch_size: Annotated[int, at_least(1)] = 256,
    pages: Pages | None = None,
    max_pixels: Annotated[int | None, at_least(1)] = None,
    pixel_range: PixelRange | None = None,
    devices: Annotated[int, at_least(1)] = 1,
    nodes: Annotated[int, at_least(1)] = 1,
    atlas: bool = False,
    port: Annotated[int | None, PORT] = None,
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
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            as the weights were trained when not given.
        max_pixels: Images with more pixels are refused; 200,000,000 when not given.
        pixel_range: The numbers in the images that are black and white, where these have another range than the images
            that the weights were trained on; as the type of the images says when not given.
        devices: Devices per machine; under torchrun, its count is used instead.
        nodes: Number of machines.
        atlas: Then open them in embedding-atlas, with the images, until Ctrl-C: a page for this machine alone. It needs
            the extra `atlas`.
        port: The port of that page; when not given, 5055 or the next one that is free.
    """
    from openmae.evaluation.embedding import Embedded
    from openmae.evaluation.embedding import embed as write_embeddings

    then: Callable[[Embedded], None] | None = None
    if atlas:
        from openmae.reporting.atlas import open_atlas, require_atlas

        require_atlas()
        then = partial(open_atlas, port=port)
    return write_embeddings(
        weights,
        as_text(data),
        Path(out),
        labels=None if labels is None else str(labels),
        batch_size=batch_size,
        pages=pages,
        max_pixels=max_pixels,
        pixel_range=pixel_range,
        devices=devices,
        nodes=nodes,
        then=then,
    )
