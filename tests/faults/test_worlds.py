"""Training is the same run on 1, 2 and 4 processes, also when their number changes on the way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.worlds import Stage, call, losses, measure, prepare
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_losses_agree_on_any_number_of_processes(zygote: Zygote, stage: Stage) -> None:
    largest = measure(zygote, stages=[stage])
    assert largest.keys() == {stage, f"{stage} resumed"}
    assert max(largest.values()) < 1e-9


def test_accumulation_steps_change_nothing_either(zygote: Zygote) -> None:
    largest = measure(zygote, (1, 2), steps=20, stages=["finetune"], accumulate=2)
    assert max(largest.values()) < 1e-9


def test_losses_that_wait_to_be_logged_survive_a_restart_in_double_precision(zygote: Zygote) -> None:
    largest = measure(zygote, (1, 1), steps=20, stages=["pretrain"], log_every=7)
    assert max(largest.values()) < 1e-12


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_sharded_model_trains_as_a_whole_one_and_checkpoints_change_hands(
    zygote: Zygote, tmp_path: Path, stage: Stage, optimizer: str
) -> None:
    prepare(zygote, tmp_path)
    common: dict[str, Any] = {
        "stage": stage,
        "folder": str(tmp_path),
        "steps": 40,
        "precision": "32-true",
        "optimizer": optimizer,
        "clip_norm": 1.0,
    }
    call(zygote, 1, "train", out=str(tmp_path / "whole"), **common)
    call(zygote, 2, "train", out=str(tmp_path / "sharded"), strategy="fsdp", **common)
    handed = str(tmp_path / "handed")
    call(zygote, 2, "train", out=handed, strategy="fsdp", stop=10, **common)
    call(zygote, 1, "train", out=handed, stop=20, **common)
    call(zygote, 2, "train", out=handed, strategy="ddp", stop=30, **common)
    call(zygote, 4, "train", out=handed, strategy="fsdp", **common)
    expected = losses(tmp_path / "whole")
    assert losses(tmp_path / "sharded") == pytest.approx(expected, rel=1e-4)
    assert losses(Path(handed)) == pytest.approx(expected, rel=1e-4)
    for name in ("sharded", "handed"):
        tensors, whole = (load_file(tmp_path / run / "encoder.safetensors") for run in (name, "whole"))
        assert tensors.keys() == whole.keys()
        for key, tensor in whole.items():
            torch.testing.assert_close(tensors[key], tensor, rtol=1e-2, atol=1e-3)
