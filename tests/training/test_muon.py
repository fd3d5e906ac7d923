from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from openmae.training.muon import Muon

SETTINGS: dict[str, Any] = {"lr": 0.02, "betas": (0.9, 0.95)}


def network() -> nn.ModuleDict:
    """Two matrices of one shape, one of another, a patch projection, a bias and a matrix too thin for Muon."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "first": nn.Linear(8, 6),
            "second": nn.Linear(8, 6),
            "tall": nn.Linear(5, 20),
            "patches": nn.Conv2d(2, 7, kernel_size=3),
            "thin": nn.Linear(40, 2),
        }
    )


def take_steps(model: nn.Module, optimizer: Optimizer, steps: int = 4, seed: int = 1) -> dict[str, Tensor]:
    """The parameters after some steps with gradients that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


MATRICES = ("first.weight", "second.weight", "tall.weight", "patches.weight")


def orthogonalised(matrix: Tensor) -> Tensor:
    """What five Newton-Schulz steps make of a matrix, computed on its singular values."""
    left, sizes, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(5):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    result: Tensor = left @ torch.diag(sizes) @ right
    return result


def test_matrices_follow_the_orthogonalised_momentum() -> None:
    lr, momentum, decay, steps = 0.02, 0.9, 0.1, 4
    model = network()
    found = take_steps(
        model, Muon([{"params": list(model.parameters()), "weight_decay": decay}], momentum=momentum, **SETTINGS), steps
    )
    expected = {name: parameter.detach().double() for name, parameter in network().named_parameters()}
    buffers = {name: torch.zeros_like(parameter) for name, parameter in expected.items()}
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for name, parameter in expected.items():
            gradient = torch.randn(parameter.shape, generator=generator).double()
            if name in MATRICES:
                buffers[name] = momentum * buffers[name] + (1 - momentum) * gradient
                nesterov = momentum * buffers[name] + (1 - momentum) * gradient
                update = orthogonalised(nesterov.flatten(1)).view_as(parameter)
                longest = max(parameter.flatten(1).shape)
                expected[name] = parameter * (1 - lr * decay) - lr * 0.2 * longest**0.5 * update
    for name in MATRICES:
        assert torch.allclose(found[name].double(), expected[name], rtol=1e-4, atol=1e-6), name


def test_everything_else_moves_as_with_adamw() -> None:
    ours, theirs = network(), network()
    found = take_steps(ours, Muon([{"params": list(ours.parameters()), "weight_decay": 0.1}], momentum=0.9, **SETTINGS))
    expected = take_steps(theirs, AdamW(theirs.parameters(), weight_decay=0.1, **SETTINGS))
    for name in found:
        assert torch.equal(found[name], expected[name]) == (name not in MATRICES), name


def test_groups_marked_for_the_fallback_are_left_to_adamw() -> None:
    ours, theirs = network(), network()
    group = {"params": list(ours.parameters()), "weight_decay": 0.1, "use_fallback": True}
    found = take_steps(ours, Muon([group], momentum=0.9, **SETTINGS))
    expected = take_steps(theirs, AdamW(theirs.parameters(), weight_decay=0.1, **SETTINGS))
    for name in found:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("shape", [(6, 8), (20, 5), (7, 2, 3, 3)])
def test_one_step_is_a_rotation_of_fixed_size_whatever_the_size_of_the_gradient(shape: tuple[int, ...]) -> None:
    sizes = []
    for factor in (1e-4, 1.0, 1e4):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.zeros(shape))
        gradient = factor * torch.randn(shape)
        parameter.grad = gradient.clone()
        Muon([{"params": [parameter], "weight_decay": 0.0}], momentum=0.95, **SETTINGS).step()
        step = parameter.detach().flatten(1)
        left, _, right = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
        along = torch.einsum("ik,ij,kj->k", left, -step, right) / (0.02 * 0.2 * max(step.shape) ** 0.5)
        assert ((along > 0.6) & (along < 1.3)).all()  # Newton-Schulz stops near 1, not at 1
        sizes.append(step.norm())
    assert sizes[0].item() == pytest.approx(sizes[2].item(), rel=1e-3)


def test_parameters_without_gradient_stay() -> None:
    model = network()
    optimizer = Muon([{"params": list(model.parameters()), "weight_decay": 0.1}], momentum=0.9, **SETTINGS)
    model.get_parameter("tall.weight").grad = torch.randn(20, 5)
    optimizer.step()
    for name, before in network().named_parameters():
        assert torch.equal(model.get_parameter(name), before) == (name != "tall.weight"), name


def test_a_restored_state_continues_to_the_bit() -> None:
    def built(model: nn.Module) -> Muon:
        return Muon([{"params": list(model.parameters()), "weight_decay": 0.1}], momentum=0.9, **SETTINGS)

    straight, stopped, continued = network(), network(), network()
    optimizer = built(straight)
    take_steps(straight, optimizer)
    expected = take_steps(straight, optimizer, seed=2)

    interrupted = built(stopped)
    take_steps(stopped, interrupted)
    continued.load_state_dict(stopped.state_dict())
    resumed = built(continued)
    resumed.load_state_dict(interrupted.state_dict())
    found = take_steps(continued, resumed, seed=2)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_a_closure_is_evaluated_before_the_step() -> None:
    ours, theirs = network(), network()
    first, second = (
        Muon([{"params": list(m.parameters()), "weight_decay": 0.1}], momentum=0.9, **SETTINGS) for m in (ours, theirs)
    )

    def closure() -> Tensor:
        loss = torch.stack([parameter.square().sum() for parameter in ours.parameters()]).sum()
        for parameter, gradient in zip(
            ours.parameters(), torch.autograd.grad(loss, list(ours.parameters())), strict=True
        ):
            parameter.grad = gradient
        return loss

    with torch.no_grad():
        assert first.step(closure) > 0
    for parameter in theirs.parameters():
        parameter.grad = 2 * parameter.detach()
    second.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other)
