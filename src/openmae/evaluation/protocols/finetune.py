"""End-to-end fine-tuning of a pre-trained encoder (appendix A.1, "End-to-end fine-tuning")."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

from openmae.checkpoints.names import ENCODER
from openmae.data.batches import Batch
from openmae.data.transforms import seeded_globals
from openmae.errors import UserError
from openmae.evaluation.experiment import open_experiment, run_experiment
from openmae.evaluation.heads.classifier import build_classifier
from openmae.evaluation.tasks.task import Task
from openmae.recipes import FinetuneRecipe
from openmae.reporter import say
from openmae.training.continuing import keep_recorded


def run_finetune(recipe: FinetuneRecipe, out: Path) -> dict[str, Any]:
    """Fine-tune as `recipe` says and measure after the last epoch."""
    filled, experiment = open_experiment(recipe)
    recipe = keep_recorded(out, recipe, filled)
    recipe = without_mixing(recipe, experiment.task)
    return run_experiment(
        recipe,
        experiment,
        out,
        build=lambda: build_classifier(recipe, experiment),
        loss=finetuning_loss(recipe, experiment.task),
        exports=lambda model: {ENCODER: model.state_dict()},
    )


def without_mixing(recipe: FinetuneRecipe, task: Task) -> FinetuneRecipe:
    """`recipe`, with what blends classes switched off for a task that has none."""
    plain = replace(recipe, mixup=0.0, cutmix=0.0, label_smoothing=0.0)
    if task.mixes or plain == recipe:
        return recipe
    say(f"mixup, CutMix and label smoothing blend classes, so they are off for {task.name}")
    return plain


def finetuning_loss(recipe: FinetuneRecipe, task: Task) -> Callable[[nn.Module, Tensor, Batch], Tensor]:
    """The loss of the task after erasing, mixup or CutMix and label smoothing, as the recipe says.

    None of it depends on the number of processes or accumulation steps: what is erased of an image and which paths are
    dropped for it come with the image; how images are mixed depends on the step, for which the loop seeds torch; and
    each image is mixed with its neighbour in the global batch.
    """
    mixing = None
    if recipe.mixup > 0 or recipe.cutmix > 0:
        assert task.mixes
        mixing = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=1.0,
            switch_prob=0.5,
            label_smoothing=recipe.label_smoothing,
            num_classes=task.outputs,
        )

    def loss(model: nn.Module, images: Tensor, batch: Batch) -> Tensor:
        targets, uniform = batch.targets, batch.uniform
        assert targets is not None
        if recipe.erasing > 0:
            erase(images, batch.seeds, recipe.erasing)
        if recipe.erasing_clipped:
            images = clip_to_pixels(images, recipe)
        if mixing is None:
            return task.loss(model(images, uniform=uniform), targets, label_smoothing=recipe.label_smoothing)
        if len(images) % 2:
            raise UserError(
                f"mixup and CutMix pair the images of a batch, and {len(images)} on each device and "
                "accumulation step is odd; use an even --batch-size, or --mixup 0 --cutmix 0"
            )
        order = neighbours_opposite(len(images), images.device)
        # The seed of this step, whatever has been drawn since: the same for every rank and accumulation step.
        with seeded_globals(torch.initial_seed() % 2**32):
            images, soft_labels = mixing(images[order], targets[order])
        return task.loss(model(images, uniform=uniform[order]), soft_labels)

    return loss


def erase(images: Tensor, seeds: list[int], probability: float) -> None:
    """Make a random rectangle of each of the `images` [B, C, H, W] noise, in place, by that image's own seed."""
    erasing = RandomErasing(probability, mode="pixel", device=images.device)
    state = random.getstate()
    on_gpu = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=on_gpu):
        for image, seed in zip(images, seeds, strict=True):
            random.seed(seed)
            torch.manual_seed(seed)
            erasing(image)
    random.setstate(state)


def neighbours_opposite(images: int, device: torch.device) -> Tensor:
    """An order in which images 2k and 2k + 1 face each other: timm mixes the k-th image with the k-th from the end.

    >>> neighbours_opposite(6, torch.device("cpu")).tolist()
    [0, 2, 4, 5, 3, 1]
    """
    places = torch.arange(images, device=device)
    return torch.cat([places[::2], places[1::2].flip(0)])


def clip_to_pixels(images: Tensor, recipe: FinetuneRecipe) -> Tensor:
    """Clip normalised images to what pixels in 0 … 1 can be: noise erased into pixels before normalising ends there."""
    mean = torch.tensor(recipe.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(recipe.std, device=images.device).view(1, -1, 1, 1)
    return images.clamp(min=-mean / std, max=(1 - mean) / std)
