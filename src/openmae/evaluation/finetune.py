"""End-to-end fine-tuning of a pre-trained encoder (appendix A.1, "End-to-end fine-tuning")."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from openmae.checkpoints.names import ENCODER
from openmae.core.drop_path import take_drop_path_as_argument
from openmae.data.batches import Batch
from openmae.data.transforms import seeded_globals
from openmae.errors import UserError
from openmae.evaluation.supervised import Task, open_task, run_supervised
from openmae.recipes import FinetuneRecipe
from openmae.weights.building import untrained_twin
from openmae.weights.networks import network_of
from openmae.weights.starting import start_from


def run_finetune(recipe: FinetuneRecipe, out: Path) -> dict[str, Any]:
    """Fine-tune as `recipe` says and measure after the last epoch."""
    recipe, task = open_task(recipe)
    return run_supervised(
        recipe,
        task,
        out,
        build=lambda: build_classifier(recipe, task),
        loss=classification_loss(recipe, task.classes),
        exports=lambda model: {ENCODER: model.state_dict()},
    )


def build_classifier(recipe: FinetuneRecipe, task: Task) -> VisionTransformer:
    """A timm classifier that starts from the pre-trained encoder: learnable positions, fresh head and pooling norm."""
    with torch.device("meta"):
        if recipe.pool == "cls" and not network_of(recipe).build_encoder().has_class_token:
            raise UserError(f"{recipe.backbone} has no class token; use --pool mean")
    vit = network_of(recipe).build_encoder(
        num_classes=task.classes,
        drop_path_rate=recipe.drop_path,
        global_pool="avg" if recipe.pool == "mean" else "token",
    )
    take_drop_path_as_argument(vit)
    assert isinstance(vit.head, nn.Linear)
    nn.init.trunc_normal_(vit.head.weight, std=recipe.head_std)
    nn.init.zeros_(vit.head.bias)
    if recipe.untrained:
        twin = untrained_twin(task.weights, seed=recipe.seed)
        start_from(vit, replace(task.weights, tensors=twin.state_dict()))
    else:
        start_from(vit, task.weights)
    return vit


def classification_loss(recipe: FinetuneRecipe, classes: int) -> Callable[[nn.Module, Tensor, Batch], Tensor]:
    """Cross-entropy after erasing, mixup or CutMix and label smoothing, as the recipe says.

    None of it depends on the number of processes or accumulation steps: what is erased of an image and which paths are
    dropped for it come with the image; how images are mixed depends on the step, for which the loop seeds torch; and
    each image is mixed with its neighbour in the global batch.
    """
    mixing = None
    if recipe.mixup > 0 or recipe.cutmix > 0:
        mixing = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=1.0,
            switch_prob=0.5,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )

    def loss(model: nn.Module, images: Tensor, batch: Batch) -> Tensor:
        labels, uniform = batch.labels, batch.uniform
        if recipe.erasing > 0:
            erase(images, batch.seeds, recipe.erasing)
        if recipe.erasing_clipped:
            images = clip_to_pixels(images, recipe)
        if mixing is None:
            return F.cross_entropy(model(images, uniform=uniform), labels, label_smoothing=recipe.label_smoothing)
        if len(images) % 2:
            raise UserError(
                f"mixup and CutMix pair the images of a batch, and {len(images)} on each device and "
                "accumulation step is odd; use an even --batch-size, or --mixup 0 --cutmix 0"
            )
        order = neighbours_opposite(len(images), images.device)
        # The seed of this step, whatever has been drawn since: the same for every rank and accumulation step.
        with seeded_globals(torch.initial_seed() % 2**32):
            images, soft_labels = mixing(images[order], labels[order])
        outputs = model(images, uniform=uniform[order])
        return F.cross_entropy(outputs, soft_labels.to(outputs.dtype))

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
