"""Linear evaluation: how far a linear classifier gets on the frozen features (appendix A.1, "Linear probing")."""

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from openmae.core.encoder import encode_images
from openmae.errors import UserError
from openmae.evaluation.cached_linear import fit_linear
from openmae.evaluation.features import Features, extract_features, pool_tokens
from openmae.evaluation.gathering import gather_rows
from openmae.evaluation.supervised import Task, describe_results, open_task, run_supervised
from openmae.recipes import LinearRecipe
from openmae.recipes.values import Pooling
from openmae.training.processes.devices import start_fabric
from openmae.training.runs import Run
from openmae.weights.building import encoder_from, untrained_twin
from openmae.weights.networks import network_of
from openmae.weights.starting import start_from

HEAD = "head.safetensors"


class LinearProbe(nn.Module):
    """A frozen encoder, batch normalisation without affine parameters, one linear layer.

    On several devices each normalises by the images that it has, as in the reference: the one thing that makes training
    depend on their number.
    """

    def __init__(self, vit: VisionTransformer, classes: int, *, pool: Pooling, head_std: float) -> None:
        super().__init__()
        self.encoder = vit.requires_grad_(False)
        self.pool = pool
        self.head = nn.Sequential(
            nn.BatchNorm1d(vit.embed_dim, affine=False, eps=1e-6), nn.Linear(vit.embed_dim, classes)
        )
        linear = self.head[1]
        assert isinstance(linear, nn.Linear)
        nn.init.normal_(linear.weight, std=head_std)
        nn.init.zeros_(linear.bias)

    def train(self, mode: bool = True) -> "LinearProbe":
        """Only the head ever trains; the encoder measures the same in both modes."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, C, H, W] to class scores [B, classes]."""
        with torch.no_grad():
            pooled = pool_tokens(self.encoder, encode_images(self.encoder, images))
        features = pooled.mean if self.pool == "mean" else pooled.cls
        if features is None:
            raise UserError("this encoder has no class token; use --pool mean")
        scores: Tensor = self.head(features)
        return scores


def run_linear(recipe: LinearRecipe, out: Path) -> dict[str, Any]:
    """Linear evaluation as `recipe` says; with `--cached`, logistic regression on features computed once."""
    recipe, task = open_task(recipe)
    if recipe.cached:
        return _run_cached(recipe, task, out)
    return run_supervised(
        recipe,
        task,
        out,
        build=lambda: LinearProbe(
            frozen_encoder(recipe, task), task.classes, pool=recipe.pool, head_std=recipe.head_std
        ),
        loss=lambda model, images, batch: F.cross_entropy(model(images), batch.labels),
        exports=lambda model: {HEAD: model.get_submodule("head").state_dict()},
    )


def frozen_encoder(recipe: LinearRecipe, task: Task) -> VisionTransformer:
    """The encoder to measure, at the recipe's image size."""
    if recipe.untrained:
        return untrained_twin(task.weights, seed=recipe.seed)
    trained = task.weights.network
    if (trained.image_size, trained.channels) == (recipe.image_size, recipe.channels):
        return encoder_from(task.weights)
    vit = network_of(recipe).build_encoder()
    start_from(vit, task.weights)
    return vit.eval()


def _run_cached(recipe: LinearRecipe, task: Task, out: Path) -> dict[str, Any]:
    fabric = start_fabric(recipe)
    with closing(Run(out, recipe, writes=fabric.is_global_zero)) as run:
        if (results := run.finished()) is not None:
            return results
        vit = frozen_encoder(recipe, task)
        train = extract_features(vit, network_of(recipe), task.train, fabric=fabric)
        test = extract_features(vit, network_of(recipe), task.test, fabric=fabric)
        top1, top5 = _fit_and_score(fabric, recipe, task, train, test)
        figures = {"cached": True, "top1": top1, "top5": top5}
        return run.finish(describe_results(recipe, task, figures, out))


def _fit_and_score(
    fabric: Fabric, recipe: LinearRecipe, task: Task, train: Features, test: Features
) -> tuple[float, float]:
    """Top-1 and top-5, computed by the first process and known to all."""
    measured = torch.empty(0, 2, dtype=torch.float64)
    if fabric.is_global_zero:
        scores = fit_linear(
            train.pooled(recipe.pool),
            train.labels,
            test.pooled(recipe.pool),
            test.labels,
            classes=task.classes,
            seed=recipe.seed,
        )
        measured = torch.tensor([scores[:2]], dtype=torch.float64)
    top1, top5 = gather_rows(fabric, measured)[0].tolist()
    return top1, top5
