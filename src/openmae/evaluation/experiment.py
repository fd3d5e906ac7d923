"""An experiment: a task, labelled images and starting weights. Linear evaluation and fine-tuning differ in the rest."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from openmae.core.drop_path import drop_paths
from openmae.data.batches import BadRecord, Batch, SeededImages
from openmae.data.pages import as_images
from openmae.data.sources import open_data
from openmae.data.transforms import TrainTransform, normalise_pixels
from openmae.errors import UserError
from openmae.evaluation.measuring import Evaluation, require_readable
from openmae.evaluation.splits import Split, labelled_splits
from openmae.evaluation.tasks import TASKS, task_for
from openmae.evaluation.tasks.task import Task
from openmae.evaluation.understood import Understood
from openmae.evaluation.unreadable import Role, describe_unreadable, listed_by_training
from openmae.recipes import FinetuneRecipe, SupervisedRecipe
from openmae.recipes.batch import fit_batch
from openmae.reporter import say
from openmae.training.deep_pixels import adopt_from, reading_before_adopting
from openmae.training.optimizers import build_optimizer
from openmae.training.pixels import hold_pixels, pixel_format, reading_of, resolve_pixels
from openmae.training.processes.devices import start_fabric
from openmae.training.runs import Run, open_run
from openmae.training.spec import TrainSpec
from openmae.training.trainer import train
from openmae.weights.comparing import require_architecture
from openmae.weights.formats.own import TASK_KEY, recipe_metadata
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights

R = TypeVar("R", bound=SupervisedRecipe)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, the labelled images, and the weights to start from, checked against the recipe."""

    task: Task
    train: Split
    test: Split
    weights: Weights
    understood: Understood


def open_experiment(recipe: R) -> tuple[R, Experiment]:
    """Open the data and the weights that `recipe` names, and fill in the fields that the recipe leaves to them.

    Without a test split a fifth of the labelled images is held out, by the recipe's seed.

    Raises:
        UserError: when either is missing, unlabelled, labelled for another task, or of another network.
    """
    if recipe.data is None:
        raise UserError("no images to measure on; give --data a labelled folder or Parquet file, or fashion-mnist")
    if recipe.weights is None:
        raise UserError("no weights to measure; give --weights a run folder, a checkpoint or an encoder.safetensors")
    weights = read_weights(recipe.weights)
    require_architecture(weights, recipe)
    data = open_data(recipe.data, labels=recipe.labels)
    data = as_images(data, reading_before_adopting(recipe, weights.network))
    kind = TASKS[recipe.task].kind
    train, test, understood = labelled_splits(
        data,
        kind,
        fraction=recipe.label_fraction,
        seed=recipe.seed,
        hold_out=True,
        split=recipe.split,
        train_split=recipe.train_split,
    )
    say(understood.sentence())
    assert test is not None, "hold_out makes one"
    task = task_for(recipe.task, train.targets, recipe.class_weights)
    recipe = resolve_pixels(adopt_from(recipe, weights.network, train.images), train.images)
    return recipe, Experiment(task=task, train=train, test=test, weights=weights, understood=understood)


def run_experiment(
    recipe: SupervisedRecipe,
    experiment: Experiment,
    out: Path,
    *,
    build: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Tensor, Batch], Tensor],
    exports: Callable[[nn.Module], Mapping[str, Mapping[str, Tensor]]],
) -> dict[str, Any]:
    """Train a model with the one loop and measure it on the test images after the last epoch.

    Args:
        recipe: how to train.
        experiment: what, on which images, from which weights.
        out: the run folder.
        build: makes the model, images [B, C, H, W] to the outputs of the task.
        loss: (model, normalised images, the batch that they are of) to the loss.
        exports: model to the files that are written at the end.
    """
    task, labelled, test = experiment.task, experiment.train, experiment.test
    recipe = fit_batch(recipe, len(labelled), even=isinstance(recipe, FinetuneRecipe))
    fabric = start_fabric(recipe)
    with closing(open_run_of(fabric, experiment, recipe, out)) as run:
        if (results := run.finished()) is not None:
            return results
        require_readable(recipe, test)
        torch.manual_seed(recipe.seed)
        model = build()
        origin = f"{experiment.weights.file} (untrained twin)" if recipe.untrained else str(experiment.weights.file)
        say(
            f"{recipe.stage} of {origin}: {len(labelled):,} labelled images of {task.describe()}, "
            f"{len(test):,} to test on, {recipe.epochs} epochs, batch {recipe.batch_size}, "
            f"{recipe.optimizer} at {recipe.lr:.3g}"
        )

        def batch_loss(wrapped: nn.Module, batch: Batch) -> Tensor:
            return loss(wrapped, normalise_pixels(batch.images, recipe.mean, recipe.std), batch)

        transform = train_transform(recipe)
        evaluation = Evaluation(fabric, run, recipe, task, test)
        job = TrainSpec(
            recipe=recipe,
            model=model,
            optimizer=partial(build_optimizer, recipe),
            dataset=SeededImages(
                source=labelled.images,
                transform=transform,
                format=pixel_format(recipe),
                reading=reading_of(recipe),
                targets=labelled.targets,
                seed=recipe.seed,
                uniform=drop_paths(model),
                cache=hold_pixels(recipe, labelled.images, transform),
            ),
            loss=batch_loss,
            evaluate=evaluation,
            exports=exports,
            metadata=metadata_of(recipe, task),
        )
        figures, measured = train(fabric, job, run), evaluation.newest
        bad: dict[Role, Sequence[BadRecord]] = {"train": listed_by_training(run), "test": measured.bad}
        return run.finish(describe_results(recipe, experiment, figures, measured.details, bad, out))


def metadata_of(recipe: SupervisedRecipe, task: Task) -> dict[str, str]:
    """The metadata of the files of weights: the recipe, and the meaning of the outputs."""
    return {**recipe_metadata(recipe), TASK_KEY: json.dumps(task.notes())}


def open_run_of(fabric: Fabric, experiment: Experiment, recipe: SupervisedRecipe, out: Path) -> Run:
    """Open the run folder of an experiment; every process must call this together."""
    splits = {"train": experiment.train, "test": experiment.test}
    return open_run(
        fabric,
        out,
        recipe,
        images={name: split.images for name, split in splits.items()},
        targets={name: split.targets for name, split in splits.items()},
        weights=experiment.weights,
    )


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


def describe_results(
    recipe: SupervisedRecipe,
    experiment: Experiment,
    figures: Mapping[str, Any],
    details: Mapping[str, Any],
    bad: dict[Role, Sequence[BadRecord]],
    out: Path,
) -> dict[str, Any]:
    """A measurement as one object: what was measured, on what, the `figures`, and the `details` of each class."""
    names = {key: value for key, value in experiment.task.notes().items() if key in ("classes", "labels")}
    return {
        "protocol": recipe.stage,
        "task": recipe.task,
        "recipe": recipe.name,
        "encoder": "untrained" if recipe.untrained else "pretrained",
        "weights": str(experiment.weights.file),
        "label_fraction": recipe.label_fraction,
        "seed": recipe.seed,
        "train_images": len(experiment.train) - len(bad["train"]),
        "test_images": len(experiment.test) - len(bad["test"]),
        **describe_unreadable(bad),
        "data": experiment.understood.record(),
        **names,
        **figures,
        **details,
        "out": str(out),
    }
