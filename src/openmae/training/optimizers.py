"""Parameter groups and optimisers; the optimisers themselves are torch's and timm's."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import Lars, param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import AdamW, Optimizer

from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe
from openmae.training.muon import Muon

TOKEN_NAMES = ("cls_token", "reg_token", "mask_token", "pos_embed")
TRUST_COEFFICIENT = 1e-3


def build_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser over the parameters of `model` that require gradients.

    Biases, norms and other one-dimensional parameters never decay; class and mask tokens as the recipe says. Every
    group may carry `lr_scale`, a factor of its rate, or be `frozen_at_first`; `Schedule.rates` says what that means.
    """
    groups = list(_groups(recipe, model))
    if recipe.optimizer == "lars":
        return _lars(recipe, groups)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=recipe.lr, momentum=recipe.momentum, betas=recipe.betas)
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def _groups(recipe: Recipe, model: nn.Module) -> Iterable[dict[str, Any]]:
    tokens = [name for name, _ in model.named_parameters() if name.rsplit(".", 1)[-1] in TOKEN_NAMES]
    exempt = [] if recipe.decay_tokens else tokens
    # Tokens are no matrices: Muon leaves them to its AdamW.
    fallback = tokens if recipe.optimizer == "muon" else []
    if isinstance(recipe, FinetuneRecipe):
        groups = param_groups_layer_decay(
            model,
            weight_decay=recipe.weight_decay,
            no_weight_decay_list=exempt,
            fallback_list=fallback,
            layer_decay=recipe.layer_decay,
        )
        groups = _with_full_rate(groups, {id(p) for name, p in model.named_parameters() if name.startswith("norm.")})
    else:
        groups = param_groups_weight_decay(
            model, weight_decay=recipe.weight_decay, no_weight_decay_list=exempt, fallback_list=fallback
        )
    if isinstance(recipe, PretrainRecipe) and recipe.encoder_frozen_epochs:
        groups = _by_part(groups, {id(p) for name, p in model.named_parameters() if name.startswith("encoder.")})
    return [group for group in groups if group["params"]]


def _by_part(groups: Iterable[dict[str, Any]], encoder: set[int]) -> Iterable[dict[str, Any]]:
    """The groups, each as one of the encoder, whose parameters are given by id, and one of all others."""
    for group in groups:
        yield {**group, "params": [p for p in group["params"] if id(p) in encoder], "frozen_at_first": True}
        yield {**group, "params": [p for p in group["params"] if id(p) not in encoder]}


def _with_full_rate(groups: Iterable[dict[str, Any]], parameters: set[int]) -> Iterable[dict[str, Any]]:
    """The groups with these parameters, by id, at scale 1: timm counts the final norm to the last block."""
    for group in groups:
        yield {**group, "params": [p for p in group["params"] if id(p) not in parameters]}
        yield {**group, "params": [p for p in group["params"] if id(p) in parameters], "lr_scale": 1.0}


def _lars(recipe: Recipe, groups: list[dict[str, Any]]) -> Optimizer:
    """LARS (You et al., arXiv 1708.03888). Biases get the plain rate, unless the recipe scales them too (mm)."""
    scale_biases = isinstance(recipe, LinearRecipe) and recipe.scale_bias_lr
    adapted: list[dict[str, Any]] = []
    for group in groups:
        for scaled in (True, False):
            parameters = [p for p in group["params"] if (p.ndim > 1 or scale_biases) == scaled]
            if parameters:
                adapted.append({**group, "params": parameters, "always_adapt": scaled})
    lars: Optimizer = Lars(adapted, lr=recipe.lr, momentum=recipe.momentum, trust_coeff=TRUST_COEFFICIENT)
    return lars


def set_learning_rate(optimizer: Optimizer, rates: Iterable[float], *, lr_in_momentum: bool = False) -> None:
    """Give each parameter group its rate.

    With `lr_in_momentum` the momentum buffers are rescaled by old rate / new rate. An optimiser that keeps the rate
    outside of its buffer then behaves like one that keeps it inside (Goyal et al., arXiv 1706.02677, section 2.1).
    """
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        previous, group["lr"] = group["lr"], rate
        if lr_in_momentum and rate > 0:
            for parameter in group["params"]:
                buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
                if isinstance(buffer, torch.Tensor):
                    buffer.mul_(previous / rate)
