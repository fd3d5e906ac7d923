"""Linear evaluation: how far a linear classifier gets on the frozen features (appendix A.1, "Linear probing")."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.checkpoints.names import ENCODER
from openmae.checkpoints.tensor_files import write_tensors
from openmae.data.batches import BadRecord, Batch
from openmae.evaluation.experiment import (
    Experiment,
    describe_results,
    metadata_of,
    open_experiment,
    run_experiment,
)
from openmae.evaluation.features import Features, extract_features
from openmae.evaluation.gathering import gather_rows
from openmae.evaluation.heads.fitted import LinearHead
from openmae.evaluation.heads.linear_probe import LinearProbe
from openmae.evaluation.splits import Split
from openmae.evaluation.unreadable import Role, list_unreadable, say_unreadable
from openmae.recipes import LinearRecipe
from openmae.training.processes.devices import start_fabric
from openmae.training.runs import Run
from openmae.weights.building import encoder_from, untrained_twin
from openmae.weights.networks import network_of
from openmae.weights.starting import start_from
from openmae.weights.weights import HEAD_PREFIX

HEAD = "head.safetensors"


def run_linear(recipe: LinearRecipe, out: Path) -> dict[str, Any]:
    """Linear evaluation as `recipe` says; with `--cached`, a head that is fitted directly to features computed once."""
    recipe, experiment = open_experiment(recipe)
    if recipe.cached:
        return _run_cached(recipe, experiment, out)
    task = experiment.task

    def loss(model: nn.Module, images: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return task.loss(model(images), batch.targets)

    def exports(model: nn.Module) -> dict[str, dict[str, Tensor]]:
        vit, head = model.get_submodule("encoder"), model.get_submodule("head").state_dict()
        assert isinstance(vit, VisionTransformer)
        return {HEAD: head, ENCODER: with_head(vit, head)}

    return run_experiment(
        recipe,
        experiment,
        out,
        build=lambda: LinearProbe(
            frozen_encoder(recipe, experiment), task.outputs, pool=recipe.pool, head_std=recipe.head_std
        ),
        loss=loss,
        exports=exports,
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
    with closing(Run(out, recipe, writes=fabric.is_global_zero)) as run:
        if (results := run.finished()) is not None:
            return results
        vit = frozen_encoder(recipe, experiment)
        found: dict[Role, Features] = {}
        splits: dict[Role, Split] = {"train": experiment.train, "test": experiment.test}
        for role, split in splits.items():
            found[role] = extract_features(vit, network_of(recipe), split.images, fabric=fabric)
            say_unreadable(found[role].bad, len(split), role)
            list_unreadable(run, found[role].bad, role)
        rows, head = _fit_and_measure(fabric, recipe, experiment, found["train"], found["test"])
        figures = {"cached": True, **experiment.task.figures(rows)}
        if head is not None:
            _write(run, vit, head, metadata_of(recipe, experiment.task))
        bad: dict[Role, Sequence[BadRecord]] = {role: features.bad for role, features in found.items()}
        details = experiment.task.details(rows)
        return run.finish(describe_results(recipe, experiment, figures, details, bad, out))


def _fit_and_measure(
    fabric: Fabric, recipe: LinearRecipe, experiment: Experiment, train: Features, test: Features
) -> tuple[Tensor, LinearHead | None]:
    """The rows of the test images, and the head that the task fits: in the first process, whose outputs all know."""
    task, head = experiment.task, None
    outputs = torch.empty(0, task.outputs)
    if fabric.is_global_zero:
        targets = experiment.train.targets.subset(train.indices).values
        fitted = task.fit(train.pooled(recipe.pool), targets, test.pooled(recipe.pool), seed=recipe.seed)
        outputs, head = torch.from_numpy(fitted.outputs), fitted.head
    measured = torch.from_numpy(experiment.test.targets.subset(test.indices).values)
    return task.rows(gather_rows(fabric, outputs), measured), head


def _write(run: Run, vit: VisionTransformer, head: LinearHead, metadata: Mapping[str, str]) -> None:
    """Write the head, and the encoder with it, as a trained probe is written."""
    tensors = head.tensors()
    write_tensors(run.path / HEAD, tensors, metadata)
    write_tensors(run.path / ENCODER, with_head(vit, tensors), metadata)


def with_head(vit: VisionTransformer, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an encoder with a linear probe on it, as `Weights` has them."""
    own = {name: tensor for name, tensor in vit.state_dict().items() if not name.startswith(HEAD_PREFIX)}
    return {**own, **{HEAD_PREFIX + name: tensor for name, tensor in head.items()}}
