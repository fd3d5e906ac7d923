"""Weighted nearest neighbours on frozen features: no training, no hyper-parameter to tune."""

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch.nn import functional as F

from openmae.data.decoding import Pages
from openmae.data.pages import as_images
from openmae.data.sources import open_data
from openmae.errors import UserError
from openmae.evaluation.accuracy import Scores, outcomes, scores_of
from openmae.evaluation.confusion import class_figures
from openmae.evaluation.features import extract_features
from openmae.evaluation.gathering import gather_rows
from openmae.evaluation.results import Measurement
from openmae.evaluation.splits import labelled_splits
from openmae.evaluation.unreadable import describe_unreadable, say_unreadable
from openmae.recipes.values import PixelRange, Pooling
from openmae.reporter import say
from openmae.training.deep_pixels import network_for_sources
from openmae.training.pixels import reading_of
from openmae.training.processes.devices import measuring_processes
from openmae.weights.building import encoder_from, untrained_twin
from openmae.weights.reading import read_weights

NEIGHBOURS = 20
TEMPERATURE = 0.07
CHUNK = 256


def run_knn(
    weights: str | Path,
    data: str | tuple[str, ...],
    *,
    labels: str | None = None,
    split: str | None = None,
    train_split: str | None = None,
    neighbours: int = NEIGHBOURS,
    label_fraction: float = 1.0,
    pool: Pooling = "mean",
    untrained: bool = False,
    seed: int = 0,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> Measurement:
    """Classify the test split by the labelled training images, or each image by the others when there is no split."""
    fabric = measuring_processes(devices=devices, nodes=nodes)
    loaded = read_weights(weights)
    reading = reading_of(loaded.network, pages=pages, max_pixels=max_pixels)
    data_set = as_images(open_data(data, labels=labels), reading)
    train, test, understood = labelled_splits(
        data_set, "class", fraction=label_fraction, seed=seed, split=split, train_split=train_split
    )
    say(understood.sentence())
    # The twin is the network that the pre-training itself began with, where that is known.
    own_seed = loaded.recipe.seed if loaded.recipe is not None else seed
    vit = untrained_twin(loaded, seed=own_seed) if untrained else encoder_from(loaded)
    used = [split.images for split in (train, test) if split is not None]
    network = network_for_sources(loaded.network, used, reading, pixel_range=pixel_range)
    bank = extract_features(vit, network, train.images, reading=reading, fabric=fabric)
    queries = extract_features(vit, network, test.images, reading=reading, fabric=fabric) if test is not None else None
    measured_bad = bank.bad if queries is None else queries.bad
    say_unreadable(bank.bad, len(train), "train")
    if test is not None:
        say_unreadable(measured_bad, len(test), "test")
    outcomes_M4 = vote(
        bank.pooled(pool),
        train.targets.values[bank.indices],
        queries.pooled(pool) if queries is not None else None,
        test.targets.values[queries.indices] if test is not None and queries is not None else None,
        classes=len(train.targets.names),
        neighbours=neighbours,
        fabric=fabric,
    )
    scores, classes = scores_of(outcomes_M4), class_figures(outcomes_M4, train.targets.names)
    unreadable = describe_unreadable({"train": bank.bad, "test": measured_bad})
    return {
        "protocol": "knn",
        "task": "classification",
        "encoder": "untrained" if untrained else "pretrained",
        "weights": str(loaded.file),
        "neighbours": neighbours,
        "label_fraction": label_fraction,
        "seed": seed,
        "pool": pool,
        "leave_one_out": queries is None,
        "train_images": len(bank.indices),
        "test_images": scores.images,
        "unreadable": unreadable["unreadable"],
        "unreadable_images": unreadable["unreadable_images"],
        "data": understood.record(),
        "classes": list(train.targets.names),
        "top1": scores.top1,
        "top5": scores.top5,
        "mean_class_accuracy": classes["mean_class_accuracy"],
        "per_class": classes["per_class"],
        "confusion": classes["confusion"],
    }


def knn(
    bank: NDArray[np.float32],
    bank_labels: NDArray[np.int64],
    queries: NDArray[np.float32] | None,
    query_labels: NDArray[np.int64] | None,
    *,
    classes: int,
    neighbours: int = NEIGHBOURS,
) -> Scores:
    """The accuracy of `vote`."""
    return scores_of(vote(bank, bank_labels, queries, query_labels, classes=classes, neighbours=neighbours))


@torch.inference_mode()
def vote(
    bank: NDArray[np.float32],
    bank_labels: NDArray[np.int64],
    queries: NDArray[np.float32] | None,
    query_labels: NDArray[np.int64] | None,
    *,
    classes: int,
    neighbours: int = NEIGHBOURS,
    fabric: Fabric | None = None,
) -> NDArray[np.int64]:
    """Classify each query by its nearest neighbours in the bank (Wu et al., arXiv 1805.01978, section 3.4).

    Returns the outcomes [M, 4], see `accuracy.outcomes`; with several processes in an order of their own.

    Cosine similarity s; each neighbour votes for its class with weight exp(s / 0.07).

    Args:
        bank: labelled features [N, D].
        bank_labels: [N], in 0 … classes-1.
        queries: features to classify [M, D]; None classifies each image of the bank by the others (leave-one-out).
        query_labels: [M]; None with `queries`.
        classes: how many classes there are.
        neighbours: how many neighbours vote; all of the bank when it is smaller.
        fabric: the processes that share the queries, each with all of the features; this one alone when not given.
    """
    device, rank, world_size = (
        ("cpu", 0, 1) if fabric is None else (fabric.device, fabric.global_rank, fabric.world_size)
    )
    leave_one_out = queries is None or query_labels is None
    if queries is None or query_labels is None:
        queries, query_labels = bank, bank_labels
    keys = F.normalize(torch.from_numpy(bank).to(device), dim=1)
    key_labels = torch.from_numpy(bank_labels).to(device)
    voters = min(neighbours, len(keys) - leave_one_out)
    if voters < 1:
        raise UserError(f"{len(keys)} labelled images are too few for nearest neighbours; use at least 2")

    found = [torch.empty(0, 4, dtype=torch.int64)]
    for start in range(rank * CHUNK, len(queries), world_size * CHUNK):
        chunk = F.normalize(torch.from_numpy(queries[start : start + CHUNK]).to(device), dim=1)
        similarity = chunk @ keys.T
        if leave_one_out:
            rows = torch.arange(len(chunk), device=device)
            similarity[rows, start + rows] = -torch.inf
        nearest, index = similarity.topk(voters, dim=1)
        weights = (nearest / TEMPERATURE).exp()
        tally = torch.zeros(len(chunk), classes, device=device).scatter_add_(1, key_labels[index], weights)
        found.append(torch.from_numpy(outcomes(tally.cpu().numpy(), query_labels[start : start + CHUNK])))
    outcomes_M4 = torch.cat(found)
    gathered: NDArray[np.int64] = (outcomes_M4 if fabric is None else gather_rows(fabric, outcomes_M4)).numpy()
    return gathered
