"""Quality does not change a training of several processes, of which one measures."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.worlds import call, hand_over, losses, prepare
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_bit_for_bit_alike_with_quality_and_without(
    zygote: Zygote, tmp_path: Path, strategy: Literal["ddp", "fsdp"]
) -> None:
    prepare(zygote, tmp_path, weights=False)
    common: dict[str, Any] = {"folder": str(tmp_path), "steps": 20, "precision": "32-true", "stage": "pretrain"}
    for name, every in (("without", 0), ("with", 1)):
        options = {**common, "quality_every": every}
        call(zygote, 2, "train", out=str(tmp_path / name), strategy=strategy, **options)
        hand_over(zygote, tmp_path / f"{name}, continued", [(2, strategy), (2, "ddp")], **options)
    for kind in ("", ", continued"):
        assert_same_training(tmp_path / f"without{kind}", tmp_path / f"with{kind}")
        assert len(list((tmp_path / f"with{kind}" / "samples").glob("*.png"))) == 2


def assert_same_training(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    first, second = (load_file(run / "encoder.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
