import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.core.model import MaskedAutoencoder
from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.training.optimizers import build_optimizer, set_learning_rate
from openmae.weights.networks import network_of

TRUST = 1e-3
MOMENTUM = 0.9


def pretrain_recipe(name: str) -> PretrainRecipe:
    recipe = find_recipe(name)
    assert isinstance(recipe, PretrainRecipe)
    return replace(recipe, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)


def finetune_recipe(name: str) -> FinetuneRecipe:
    recipe = find_recipe(name)
    assert isinstance(recipe, FinetuneRecipe)
    return replace(recipe, width=16, depth=3, heads=2)


def linear_recipe(**changes: Any) -> LinearRecipe:
    recipe = find_recipe("fashion-mnist-linear")
    assert isinstance(recipe, LinearRecipe)
    return replace(recipe, **changes)


def group_values(optimizer: Optimizer, model: nn.Module, key: str) -> dict[str, float]:
    """`key` of the group that each trainable parameter is in, by the parameter's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    values = {names[id(p)]: group[key] for group in optimizer.param_groups for p in group["params"]}
    assert set(values) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return values


@pytest.mark.parametrize("name", ["vit-b16-800e", "vit-b16-800e-mm"])
def test_biases_and_norms_never_decay_and_matrices_do(name: str) -> None:
    recipe = pretrain_recipe(name)
    model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    decay = group_values(build_optimizer(recipe, model), model, "weight_decay")
    for parameter, value in decay.items():
        if parameter.rsplit(".", 1)[-1] not in ("cls_token", "mask_token"):
            assert value == (0.05 if model.get_parameter(parameter).ndim > 1 else 0.0), parameter


@pytest.mark.parametrize(("name", "expected"), [("vit-b16-800e", 0.05), ("vit-b16-800e-mm", 0.0)])
def test_class_and_mask_tokens_decay_for_fair_and_not_for_mm(name: str, expected: float) -> None:
    recipe = pretrain_recipe(name)
    model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    decay = group_values(build_optimizer(recipe, model), model, "weight_decay")
    assert decay["encoder.cls_token"] == decay["decoder.mask_token"] == expected


def test_adamw_uses_the_recipes_betas_and_rate() -> None:
    recipe = pretrain_recipe("vit-b16-800e")
    optimizer = build_optimizer(recipe, network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std))
    assert {(group["betas"], group["lr"]) for group in optimizer.param_groups} == {((0.9, 0.95), 2.4e-3)}


def test_frozen_parameters_are_left_out() -> None:
    recipe = pretrain_recipe("vit-b16-800e")
    model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    in_groups = {id(p) for group in build_optimizer(recipe, model).param_groups for p in group["params"]}
    assert id(model.encoder.pos_embed) not in in_groups
    assert id(model.encoder.cls_token) in in_groups


@pytest.mark.parametrize(
    ("backbone", "pool"),
    [("vit_tiny_patch16_224", "avg"), ("vit_tiny_patch16_224", "token"), ("vit_base_patch16_reg4_gap_256", "avg")],
)
def test_layer_wise_decay_falls_from_the_head_to_the_embeddings(backbone: str, pool: str) -> None:
    recipe = replace(finetune_recipe("vit-b16-800e-finetune"), backbone=backbone, layer_decay=0.65)
    vit = network_of(recipe).build_encoder(num_classes=5, global_pool=pool)
    scales = group_values(build_optimizer(recipe, vit), vit, "lr_scale")
    depth = 3
    for name, scale in scales.items():
        part = name.split(".")[0]
        if part in ("cls_token", "reg_token", "pos_embed", "patch_embed"):
            expected = 0.65 ** (depth + 1)
        elif part == "blocks":
            expected = 0.65 ** (depth - int(name.split(".")[1]))
        else:
            assert part in ("norm", "fc_norm", "head")
            expected = 1.0
        assert scale == pytest.approx(expected), name
    assert ("norm.weight" in scales) == (pool == "token")
    assert ("fc_norm.weight" in scales) == (pool == "avg")


def test_fine_tuning_decays_matrices_but_no_positions() -> None:
    recipe = finetune_recipe("vit-b16-800e-finetune")
    vit = network_of(recipe).build_encoder(num_classes=5, global_pool="token")
    decay = group_values(build_optimizer(recipe, vit), vit, "weight_decay")
    assert decay["pos_embed"] == decay["cls_token"] == decay["norm.weight"] == decay["head.bias"] == 0.0
    assert decay["head.weight"] == decay["blocks.0.attn.qkv.weight"] == 0.05


def lars_model() -> nn.Linear:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.bias.copy_(torch.tensor([0.5]))
    return model


GRADIENTS = [([0.6, 0.8], 0.2), ([0.0, 2.0], -0.4), ([-1.0, 0.0], 0.1)]
RATES = [2.0, 5.0, 1.0]


def run_lars(recipe: LinearRecipe) -> list[float]:
    """The weight and bias of `lars_model` after three steps with given gradients and changing rates."""
    model = lars_model()
    optimizer = build_optimizer(recipe, model)
    for (weight, bias), rate in zip(GRADIENTS, RATES, strict=True):
        set_learning_rate(optimizer, [rate] * len(optimizer.param_groups), lr_in_momentum=recipe.lr_in_momentum)
        model.weight.grad, model.bias.grad = torch.tensor([weight]), torch.tensor([bias])
        optimizer.step()
    return [*model.weight[0].tolist(), model.bias.item()]


def trust(parameter: list[float], gradient: list[float]) -> float:
    return TRUST * math.hypot(*parameter) / (math.hypot(*gradient) + 1e-8)


def test_lars_of_fair_keeps_the_rate_outside_the_momentum_and_gives_biases_the_plain_rate() -> None:
    weight, bias = [3.0, 4.0], 0.5
    buffer, bias_buffer = [0.0, 0.0], 0.0
    for (gradient, bias_gradient), rate in zip(GRADIENTS, RATES, strict=True):
        ratio = trust(weight, gradient)
        buffer = [MOMENTUM * b + ratio * g for b, g in zip(buffer, gradient, strict=True)]
        weight = [w - rate * b for w, b in zip(weight, buffer, strict=True)]
        bias_buffer = MOMENTUM * bias_buffer + bias_gradient
        bias -= rate * bias_buffer
    assert run_lars(linear_recipe()) == pytest.approx([*weight, bias])


def test_lars_of_mm_keeps_the_rate_inside_the_momentum_and_scales_biases() -> None:
    weight, bias = [3.0, 4.0], 0.5
    buffer, bias_buffer = [0.0, 0.0], 0.0
    for (gradient, bias_gradient), rate in zip(GRADIENTS, RATES, strict=True):
        ratio = trust(weight, gradient)
        buffer = [MOMENTUM * b + rate * ratio * g for b, g in zip(buffer, gradient, strict=True)]
        weight = [w - b for w, b in zip(weight, buffer, strict=True)]
        bias_buffer = MOMENTUM * bias_buffer + rate * trust([bias], [bias_gradient]) * bias_gradient
        bias -= bias_buffer
    recipe = linear_recipe(scale_bias_lr=True, lr_in_momentum=True)
    assert run_lars(recipe) == pytest.approx([*weight, bias])


def test_lars_takes_its_momentum_from_the_recipe() -> None:
    assert run_lars(linear_recipe(momentum=0.5)) != run_lars(linear_recipe())


def test_a_rate_of_zero_leaves_the_momentum_alone() -> None:
    model = lars_model()
    recipe = linear_recipe(lr_in_momentum=True)
    optimizer = build_optimizer(recipe, model)
    for rate in (1.0, 0.0):
        set_learning_rate(optimizer, [rate] * 2, lr_in_momentum=True)
        model.weight.grad, model.bias.grad = torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])
        optimizer.step()
    assert all(bool(torch.isfinite(state["momentum_buffer"]).all()) for state in optimizer.state.values())


def muon_step(recipe: Recipe, model: MaskedAutoencoder | VisionTransformer) -> Optimizer:
    optimizer = build_optimizer(recipe, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def test_muon_moves_matrices_and_leaves_tokens_biases_and_norms_to_adamw() -> None:
    recipe = replace(pretrain_recipe("vit-b16-800e"), optimizer="muon")
    model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = muon_step(recipe, model)
    by_muon = {
        name for name, p in model.named_parameters() if p.requires_grad and "momentum_buffer" in optimizer.state[p]
    }
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    matrices = {name for name in trainable if model.get_parameter(name).ndim > 1 and not name.endswith("_token")}
    assert by_muon == matrices
    assert {"encoder.cls_token", "decoder.mask_token"} <= trainable - by_muon
    assert all(not torch.equal(before[name], model.get_parameter(name)) for name in trainable)


def test_muon_takes_its_momentum_from_the_recipe() -> None:
    recipe = replace(pretrain_recipe("vit-b16-800e"), optimizer="muon", momentum=0.8)
    optimizer = build_optimizer(recipe, network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std))
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}


def test_muon_fine_tunes_with_layer_wise_decay() -> None:
    recipe = replace(finetune_recipe("vit-b16-800e-finetune"), optimizer="muon")
    vit = network_of(recipe).build_encoder(num_classes=5, global_pool="avg")
    optimizer = muon_step(recipe, vit)
    for token in (vit.cls_token, vit.pos_embed):
        assert "exp_avg" in optimizer.state[token]
        assert "momentum_buffer" not in optimizer.state[token]
    assert len({group["lr_scale"] for group in optimizer.param_groups}) == 5


def test_each_group_gets_its_own_rate() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=1.0)
    set_learning_rate(optimizer, [0.25, 4.0])
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 4.0]
    with pytest.raises(ValueError, match="argument 2"):
        set_learning_rate(optimizer, [0.25])


def test_momentum_is_rescaled_only_when_the_rate_belongs_into_it() -> None:
    def buffer_after(*, lr_in_momentum: bool) -> Tensor:
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=2.0, momentum=0.9)
        parameter.grad = torch.ones(1)
        optimizer.step()
        set_learning_rate(optimizer, [8.0], lr_in_momentum=lr_in_momentum)
        buffer: Tensor = optimizer.state[parameter]["momentum_buffer"]
        return buffer

    assert float(buffer_after(lr_in_momentum=True)) == 0.25
    assert float(buffer_after(lr_in_momentum=False)) == 1.0
