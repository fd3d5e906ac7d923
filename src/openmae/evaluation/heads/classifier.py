"""The head of fine-tuning: a timm model whose last linear layer gives the outputs of a task."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from openmae.core.drop_path import take_drop_path_as_argument
from openmae.errors import UserError
from openmae.evaluation.experiment import Experiment, untrained_twin
from openmae.recipes import FinetuneRecipe
from openmae.weights.building import build_encoder, untrained_encoder
from openmae.weights.starting import start_from


def build_classifier(recipe: FinetuneRecipe, experiment: Experiment) -> VisionTransformer:
    """A timm model that starts from the pre-trained encoder: learnable positions, fresh head and pooling norm."""
    with torch.device("meta"):
        if recipe.pool == "cls" and not build_encoder(recipe).has_class_token:
            raise UserError(f"{recipe.backbone} has no class token; use --pool mean")
    vit = build_encoder(
        recipe,
        num_classes=experiment.task.outputs,
        drop_path_rate=recipe.drop_path,
        global_pool="avg" if recipe.pool == "mean" else "token",
    )
    take_drop_path_as_argument(vit)
    assert isinstance(vit.head, nn.Linear)
    nn.init.trunc_normal_(vit.head.weight, std=recipe.head_std)
    nn.init.zeros_(vit.head.bias)
    if recipe.untrained:
        twin = untrained_twin(recipe, experiment.weights)
        start_from(vit, twin._replace(tensors=untrained_encoder(twin.recipe).state_dict()))
    else:
        start_from(vit, experiment.weights)
    return vit
