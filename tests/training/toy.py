"""A network of three outputs and its twelve images, to test the training around a model."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import list_checkpoints
from openmae.checkpoints.names import ENCODER, METRICS
from openmae.data.batches import Batch, SeededImages
from openmae.data.decoding import PixelFormat
from openmae.data.sources import open_data
from openmae.data.transforms import TrainTransform
from openmae.recipes import LinearRecipe, Recipe, find_recipe
from openmae.recipes.values import Every
from openmae.training import trainer
from openmae.training.optimizers import build_optimizer
from openmae.training.runs import Run
from openmae.training.spec import TrainSpec

IMAGES, BATCH, STEPS_PER_EPOCH, STEPS = 12, 4, 3, 12


class Toy(nn.Module):
    """4x4 grey images to 3 numbers; its dropout draws from torch's generator."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.dropout(images.flatten(1).float() / 255))
        return scores


def toy_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Depends on the pixels (crop and flip), the noise (mask), the weights and the dropout."""
    loss: Tensor = (model(batch.images) - batch.uniform).square().mean()
    return loss


@dataclass
class Crash:
    """The toy's loss, until it is called for the `after`-th time too many."""

    after: int
    calls: int = 0
    act: Callable[[], None] | None = None
    """Called then, instead of the crash."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.after + 1:
            if self.act is None:
                raise RuntimeError("power cut")
            self.act()
        return toy_loss(model, batch)


@dataclass
class Watch:
    """Records the rates, gradients and weights of every step of an optimiser."""

    rates: list[list[float]] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def __call__(self, optimizer: Optimizer) -> None:
        def before(optimizer: Optimizer, *_: Any) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.rates.append([group["lr"] for group in optimizer.param_groups])
            self.gradient_norms.append(math.hypot(*(float(p.grad.norm()) for p in parameters)))

        def after(optimizer: Optimizer, *_: Any) -> None:
            parameters = [p.detach().flatten() for group in optimizer.param_groups for p in group["params"]]
            self.weights.append(torch.cat(parameters))

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)


def _call(
    evaluate: Callable[..., dict[str, float] | None], model: nn.Module, give_up: Callable[[], bool]
) -> dict[str, float] | None:
    """Call it with the model only if it has no second parameter."""
    takes_both = len(signature(evaluate).parameters) == 2
    return evaluate(model, give_up) if takes_both else evaluate(model)


def toy_spec(
    recipe: Recipe,
    *,
    loss: Callable[[nn.Module, Batch], Tensor] = toy_loss,
    dropout: float = 0.5,
    evaluate: Callable[..., dict[str, float] | None] | None = None,
    watch: Watch | None = None,
    build: Callable[[Recipe, nn.Module], Optimizer] = build_optimizer,
) -> TrainSpec:
    """The toy with fresh weights, and its images."""

    def optimizer(model: nn.Module) -> Optimizer:
        built = build(recipe, model)
        if watch is not None:
            watch(built)
        return built

    assert recipe.data is not None
    dataset = SeededImages(
        source=open_data(recipe.data).train,
        transform=TrainTransform(size=(4, 4), crop_scale=(0.3, 1.0)),
        format=PixelFormat(1),
        seed=recipe.seed,
        uniform=3,
    )
    return TrainSpec(
        recipe=recipe,
        model=Toy(dropout),
        optimizer=optimizer,
        dataset=dataset,
        loss=loss,
        evaluate=None if evaluate is None else partial(_call, evaluate),
        exports=lambda trained: {ENCODER: trained.state_dict()},
        metadata={},
    )


def train(recipe: Recipe, out: Path, **options: Any) -> dict[str, float]:
    """Train the toy on the CPU as `recipe` says; `options` are those of `toy_spec`."""
    torch.manual_seed(recipe.seed)
    spec = toy_spec(recipe, **options)
    run = Run(out, recipe, writes=True)
    try:
        return trainer.train(Fabric(accelerator="cpu", devices=1, precision="32-true"), spec, run)
    finally:
        run.close()


def metrics(run: Path, name: str = "loss") -> list[float]:
    records = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [record[name] for record in records if name in record]


def steps_saved(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(run / "checkpoints")]


def weights(run: Path) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in load_file(run / ENCODER).values()])


def assert_same_run(one: Path, other: Path) -> None:
    """Every logged loss, bit for bit, and every exported weight."""
    assert metrics(one) == metrics(other)
    assert metrics(one, "step") == metrics(other, "step")
    assert torch.equal(weights(one), weights(other))


def saving_always(recipe: Recipe) -> Recipe:
    """The same run, with a checkpoint after every step."""
    return replace(recipe, save_every=Every(1, "steps"))


def linear_recipe(images: Path, **changes: Any) -> LinearRecipe:
    found = find_recipe("fashion-mnist", "linear")
    assert isinstance(found, LinearRecipe)
    options: dict[str, Any] = {"data": str(images), "epochs": 4, "batch_size": BATCH, "workers": 0, "log_every": 1}
    return replace(found, **{**options, **changes})
