"""The head of fine-tuning: a timm model whose last linear layer gives the outputs of a task."""

from dataclasses import replace

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from openmae.core.drop_path import take_drop_path_as_argument
from openmae.errors import UserError
from openmae.evaluation.experiment import Experiment
from openmae.recipes import FinetuneRecipe
from openmae.weights.building import untrained_twin
from openmae.weights.networks import network_of
from openmae.weights.starting import start_from


def build_classifier(recipe: FinetuneRecipe, experiment: Experiment) -> VisionTransformer:
    """A timm model that starts from the pre-trained encoder: learnable positions, fresh head and pooling norm."""
    with torch.device("meta"):
        if recipe.pool == "cls" and not network_of(recipe).build_encoder().has_class_token:
            raise UserError(f"{recipe.backbone} has no class token; use --pool mean")
    vit = network_of(recipe).build_encoder(
        num_classes=experiment.task.outputs,
        drop_path_rate=recipe.drop_path,
        global_pool="avg" if recipe.pool == "mean" else "token",
    )
    take_drop_path_as_argument(vit)
    assert isinstance(vit.head, nn.Linear)
    nn.init.trunc_normal_(vit.head.weight, std=recipe.head_std)
    nn.init.zeros_(vit.head.bias)
    if recipe.untrained:
        twin = untrained_twin(experiment.weights, seed=recipe.seed)
        start_from(vit, replace(experiment.weights, tensors=twin.state_dict()))
    else:
        start_from(vit, experiment.weights)
    return vit
