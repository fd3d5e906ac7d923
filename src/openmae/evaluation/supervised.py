"""What linear evaluation and fine-tuning share: labelled images, starting weights, and the measurement."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from openmae.core.drop_path import drop_paths
from openmae.data.batches import Batch, SeededImages
from openmae.data.sources import Source, open_data
from openmae.data.transforms import TrainTransform, normalise_pixels
from openmae.data.workers import batches_of, evaluation_loader
from openmae.errors import UserError
from openmae.evaluation.features import evaluation_images
from openmae.evaluation.gathering import add_up
from openmae.evaluation.scores import Scores, count_hits, labelled_splits, scores_of, with_held_out
from openmae.recipes import FinetuneRecipe, SupervisedRecipe
from openmae.reporter import say
from openmae.training.optimizers import build_optimizer
from openmae.training.pixels import adopt_pixels, hold_pixels, pixel_format, resolve_pixels
from openmae.training.processes.devices import choose_workers, start_fabric
from openmae.training.runs import Run, fit_batch
from openmae.training.spec import TrainSpec
from openmae.training.trainer import train
from openmae.weights.comparing import require_architecture
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.networks import network_of
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights

R = TypeVar("R", bound=SupervisedRecipe)
EVALUATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Task:
    """Labelled images and the weights to start from, checked against the recipe."""

    train: Source
    test: Source
    weights: Weights

    @property
    def classes(self) -> int:
        return len(self.train.classes)


def open_task(recipe: R) -> tuple[R, Task]:
    """Open the data and the weights that `recipe` names, and settle what the recipe leaves to them.

    Without a test split a balanced fifth of the labelled images is held out, by the recipe's seed.

    Raises:
        UserError: when either is missing, unlabelled, or of another network.
    """
    if recipe.data is None:
        raise UserError("no images to measure on; give --data a labelled folder or Parquet file, or fashion-mnist")
    if recipe.weights is None:
        raise UserError("no weights to measure; give --weights a run folder, a checkpoint or an encoder.safetensors")
    weights = read_weights(recipe.weights)
    require_architecture(weights, recipe)
    data = with_held_out(open_data(recipe.data, labels=recipe.labels), seed=recipe.seed)
    train, test = labelled_splits(data, fraction=recipe.label_fraction, seed=recipe.seed)
    assert test is not None, "with_held_out makes one"
    recipe = resolve_pixels(adopt_pixels(recipe, weights.network), train)
    return recipe, Task(train=train, test=test, weights=weights)


def run_supervised(
    recipe: SupervisedRecipe,
    task: Task,
    out: Path,
    *,
    build: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Tensor, Batch], Tensor],
    exports: Callable[[nn.Module], Mapping[str, Mapping[str, Tensor]]],
) -> dict[str, Any]:
    """Train a classifier with the one loop and measure it on the test images after the last epoch.

    Args:
        recipe: how to train.
        task: on what, from which weights.
        out: the run folder.
        build: makes the classifier, images [B, C, H, W] to class scores.
        loss: (model, normalised images, the batch that they are of) to the loss.
        exports: classifier to the files that are written at the end.
    """
    recipe = fit_batch(recipe, len(task.train), even=isinstance(recipe, FinetuneRecipe))
    fabric = start_fabric(recipe)
    with closing(Run(out, recipe, writes=fabric.is_global_zero)) as run:
        if (results := run.finished()) is not None:
            return results
        torch.manual_seed(recipe.seed)
        model = build()
        origin = f"{task.weights.file} (untrained twin)" if recipe.untrained else str(task.weights.file)
        say(
            f"{recipe.stage} of {origin}: {len(task.train):,} labelled images of {task.classes} classes, "
            f"{len(task.test):,} to test on, {recipe.epochs} epochs, batch {recipe.batch_size}, "
            f"{recipe.optimizer} at {recipe.lr:.3g}"
        )

        def batch_loss(wrapped: nn.Module, batch: Batch) -> Tensor:
            return loss(wrapped, normalise_pixels(batch.images, recipe.mean, recipe.std), batch)

        transform = train_transform(recipe)
        job = TrainSpec(
            recipe=recipe,
            model=model,
            optimizer=partial(build_optimizer, recipe),
            dataset=SeededImages(
                source=task.train,
                transform=transform,
                format=pixel_format(recipe),
                seed=recipe.seed,
                uniform=drop_paths(model),
                cache=hold_pixels(recipe, task.train, transform),
            ),
            loss=batch_loss,
            evaluate=lambda trained, give_up: _figures(
                evaluate_classifier(fabric, trained, recipe, task.test, give_up)
            ),
            exports=exports,
            metadata=recipe_metadata(recipe),
        )
        return run.finish(describe_results(recipe, task, train(fabric, job, run), out))


def train_transform(recipe: SupervisedRecipe) -> TrainTransform:
    """Crops, flips and RandAugment as the recipe says.

    Raises:
        UserError: for RandAugment on pixels that it cannot change.
    """
    policy = recipe.rand_augment if isinstance(recipe, FinetuneRecipe) else None
    if policy is not None and (recipe.channels not in (1, 3) or pixel_format(recipe).kind != "uint8"):
        raise UserError(
            f"RandAugment changes 8-bit grey and colour, not {recipe.channels} channels of {recipe.pixel_type}; add "
            "--rand-augment None"
        )
    return TrainTransform(
        size=recipe.image_size,
        crop_scale=recipe.crop_scale,
        crop_attempts=recipe.crop_attempts,
        flip=recipe.flip,
        interpolation=recipe.interpolation,
        exact=recipe.decode == "exact",
        rand_augment=policy,
        fill=tuple(min(255, round(255 * value)) for value in recipe.mean),
    )


@torch.inference_mode()
def evaluate_classifier(
    fabric: Fabric,
    model: nn.Module,
    recipe: SupervisedRecipe,
    test: Source,
    give_up: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Top-1 and top-5 on every readable test image, counted once over all processes; None if any has given up."""
    model.eval()
    if fabric.world_size > 1:
        # The statistics of batch normalisation are each process's own; the first one's are saved, so they are measured.
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
    dataset = evaluation_images(network_of(recipe), test)
    # The size of a batch and who gets it do not depend on the training: the outputs are the same for any world size.
    loader = evaluation_loader(
        dataset,
        batch_size=EVALUATION_BATCH,
        workers=choose_workers(recipe),
        pin_memory=fabric.device.type == "cuda",
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    hits = np.zeros(3, dtype=np.int64)
    gave_up = np.zeros(1, dtype=np.int64)
    with batches_of(loader) as batches:
        for batch in batches:
            if give_up():
                gave_up[0] = 1
                break
            if not len(batch.labels):
                continue
            with fabric.autocast():
                images = normalise_pixels(batch.images.to(fabric.device, non_blocking=True), recipe.mean, recipe.std)
                outputs = model(images)
            hits += count_hits(outputs.float().cpu().numpy(), batch.labels.numpy())
    *total, given_up = add_up(fabric, np.append(hits, gave_up))
    if given_up:
        return None
    if not total[-1]:
        raise UserError("none of the test images can be decoded; check --data")
    return scores_of(np.array(total))


def describe_results(recipe: SupervisedRecipe, task: Task, figures: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """A measurement as one object: what was measured, on what, and the `figures`."""
    return {
        "protocol": recipe.stage,
        "recipe": recipe.name,
        "encoder": "untrained" if recipe.untrained else "pretrained",
        "weights": str(task.weights.file),
        "label_fraction": recipe.label_fraction,
        "seed": recipe.seed,
        "train_images": len(task.train),
        "test_images": len(task.test),
        **figures,
        "out": str(out),
    }


def _figures(scores: Scores | None) -> dict[str, float] | None:
    return {"top1": scores.top1, "top5": scores.top5} if scores is not None else None
