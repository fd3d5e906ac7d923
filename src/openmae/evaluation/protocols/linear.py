"""Linear evaluation: how far a linear classifier gets on the frozen features (appendix A.1, "Linear probing")."""

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.data.batches import Batch
from openmae.evaluation.experiment import (
    Experiment,
    describe_results,
    open_experiment,
    open_run_of,
    run_experiment,
)
from openmae.evaluation.features import Features, extract_features
from openmae.evaluation.gathering import gather_rows
from openmae.evaluation.heads.linear_probe import LinearProbe
from openmae.recipes import LinearRecipe
from openmae.training.continuing import keep_recorded
from openmae.training.pixels import reading_of
from openmae.training.processes.devices import start_fabric
from openmae.weights.building import encoder_from, untrained_twin
from openmae.weights.networks import network_of
from openmae.weights.starting import start_from

HEAD = "head.safetensors"


def run_linear(recipe: LinearRecipe, out: Path) -> dict[str, Any]:
    """Linear evaluation as `recipe` says; with `--cached`, a head that is fitted directly to features computed once."""
    filled, experiment = open_experiment(recipe)
    recipe = keep_recorded(out, recipe, filled)
    if recipe.cached:
        return _run_cached(recipe, experiment, out)
    task = experiment.task

    def loss(model: nn.Module, images: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return task.loss(model(images), batch.targets)

    return run_experiment(
        recipe,
        experiment,
        out,
        build=lambda: LinearProbe(
            frozen_encoder(recipe, experiment), task.outputs, pool=recipe.pool, head_std=recipe.head_std
        ),
        loss=loss,
        exports=lambda model: {HEAD: model.get_submodule("head").state_dict()},
    )


def frozen_encoder(recipe: LinearRecipe, experiment: Experiment) -> VisionTransformer:
    """The encoder to measure, at the recipe's image size."""
    if recipe.untrained:
        return untrained_twin(experiment.weights, seed=recipe.seed)
    trained = experiment.weights.network
    if (trained.image_size, trained.channels) == (recipe.image_size, recipe.channels):
        return encoder_from(experiment.weights)
    vit = network_of(recipe).build_encoder()
    start_from(vit, experiment.weights)
    return vit.eval()


def _run_cached(recipe: LinearRecipe, experiment: Experiment, out: Path) -> dict[str, Any]:
    fabric = start_fabric(recipe)
    with closing(open_run_of(fabric, experiment, recipe, out)) as run:
        if (results := run.finished()) is not None:
            return results
        vit = frozen_encoder(recipe, experiment)
        train = extract_features(
            vit, network_of(recipe), experiment.train.images, reading=reading_of(recipe), fabric=fabric
        )
        test = extract_features(
            vit, network_of(recipe), experiment.test.images, reading=reading_of(recipe), fabric=fabric
        )
        figures = {"cached": True, **_fit_and_measure(fabric, recipe, experiment, train, test)}
        return run.finish(describe_results(recipe, experiment, figures, out))


def _fit_and_measure(
    fabric: Fabric, recipe: LinearRecipe, experiment: Experiment, train: Features, test: Features
) -> dict[str, float]:
    """The figures of the head that the task fits to the features; the first process fits, all know its outputs."""
    task = experiment.task
    outputs = torch.empty(0, task.outputs)
    if fabric.is_global_zero:
        targets = experiment.train.targets.subset(train.indices).values
        fitted = task.fit(train.pooled(recipe.pool), targets, test.pooled(recipe.pool), seed=recipe.seed)
        outputs = torch.from_numpy(fitted)
    measured = torch.from_numpy(experiment.test.targets.subset(test.indices).values)
    return task.figures(task.rows(gather_rows(fabric, outputs), measured))
