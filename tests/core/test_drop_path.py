"""Drop path by given numbers: timm's distribution and scaling, nothing drawn inside."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath, drop_path
from torch import Tensor, nn

from openmae.core.drop_path import GivenDropPath, drop_paths, take_drop_path_as_argument
from openmae.core.encoder import create_encoder


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.75, 1.0])
def test_branches_are_dropped_and_scaled_as_timm_does(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    branch, uniform = torch.randn(6, 3, 5), torch.tensor([0.0, 0.05, 0.1, 0.5, 0.75, 0.999])

    def bernoulli(self: Tensor, keep: float) -> Tensor:
        assert keep == 1 - rate
        return self.copy_((uniform >= rate).view(-1, 1, 1))

    monkeypatch.setattr(Tensor, "bernoulli_", bernoulli)
    expected = drop_path(branch, rate, training=True)
    part = GivenDropPath(rate)
    part.uniform_B = uniform
    assert torch.equal(part(branch), expected)


def test_as_many_are_dropped_as_the_rate_says() -> None:
    part = GivenDropPath(0.3)
    part.uniform_B = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    out = part(torch.ones(100_000, 1))
    assert float((out == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(out.mean()) == pytest.approx(1, abs=0.01)


def tiny(**options: Any) -> nn.Module:
    sizes: dict[str, Any] = {"image_size": (8, 8), "patch_size": 4, "width": 16, "depth": 3, "heads": 2}
    vit: nn.Module = create_encoder("vit_base_patch16_224", **sizes, **options)
    return vit


def test_every_drop_path_is_replaced_and_the_weights_keep_their_names() -> None:
    model = tiny(drop_path_rate=0.2)
    names, rates = list(model.state_dict()), [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    take_drop_path_as_argument(model)
    assert list(model.state_dict()) == names
    assert not any(isinstance(module, DropPath) for module in model.modules())
    assert [module.rate for module in model.modules() if isinstance(module, GivenDropPath)] == rates
    assert drop_paths(model) == len(rates) == 4


def test_a_copy_uses_its_own_numbers() -> None:
    model = tiny(drop_path_rate=0.9).train()
    take_drop_path_as_argument(model)
    copy, images = deepcopy(model), torch.randn(2, 3, 8, 8)
    dropped = model(images, uniform=torch.zeros(2, 4))
    assert torch.equal(copy(images, uniform=torch.zeros(2, 4)), dropped)
    assert not torch.equal(copy(images), dropped)
    assert torch.equal(copy(images), model(images))


def test_without_numbers_training_mode_drops_nothing_and_draws_nothing() -> None:
    model = tiny(drop_path_rate=0.9)
    take_drop_path_as_argument(model)
    images, state = torch.randn(2, 3, 8, 8), torch.get_rng_state()
    assert torch.equal(model.train()(images), model.eval()(images))
    model.train()(images, uniform=torch.rand(2, 4, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_without_drop_path_needs_no_numbers() -> None:
    model = tiny()
    take_drop_path_as_argument(model)
    images = torch.randn(2, 3, 8, 8)
    assert drop_paths(model) == 0
    assert torch.equal(model(images, uniform=torch.empty(2, 0)), model(images))
