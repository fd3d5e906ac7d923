import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from openmae.training.processes.agreement import Verdict, agree


def together(*processes: tuple[float, float, list[bool]]) -> tuple[Verdict, int]:
    """The verdict of these processes, each with its loss, norm and wishes, and how many exchanges it took."""
    exchanges = 0

    def all_reduce(mine: Tensor, reduce_op: str) -> Tensor:
        nonlocal exchanges
        exchanges += 1
        assert reduce_op == "sum"
        others = [torch.tensor([loss, norm, *wishes], dtype=mine.dtype) for loss, norm, wishes in processes[1:]]
        return torch.stack([mine, *others]).sum(0)

    fabric: Any = SimpleNamespace(all_reduce=all_reduce, world_size=len(processes))
    loss, norm, wishes = processes[0]
    verdict = agree(cast(Fabric, fabric), loss=torch.tensor(loss), gradient_norm=torch.tensor(norm), wishes=wishes)
    return verdict, exchanges


def test_a_wish_of_any_process_is_granted_in_all_after_one_exchange() -> None:
    verdict, exchanges = together((1.0, 3.0, [False, False, True]), (2.0, 5.0, [False, True, True]))
    assert verdict == Verdict(loss=1.5, gradient_norm=4.0, wanted=(False, True, True))
    assert verdict.finite
    assert exchanges == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["loss", "norm"])
def test_one_process_that_is_not_finite_is_enough_to_skip_the_step(bad: float, place: str) -> None:
    other: tuple[float, float, list[bool]] = (bad, 1.0, []) if place == "loss" else (1.0, bad, [])
    verdict, _ = together((1.0, 1.0, []), other)
    assert not verdict.finite


def test_the_loss_and_norm_of_a_process_alone_pass_unchanged() -> None:
    loss, norm = torch.tensor(0.1), torch.tensor(0.3)
    verdict, _ = together((float(loss), float(norm), []))
    assert verdict == Verdict(loss=float(loss), gradient_norm=float(norm), wanted=())
