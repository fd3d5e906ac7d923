"""Training is the same run on 1, 2 and 4 processes, also when their number changes on the way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.worlds import Stage, call, hand_over, losses, measure, prepare
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_losses_agree_on_any_number_of_processes(zygote: Zygote, stage: Stage) -> None:
    largest = measure(zygote, steps=20, stages=[stage])
    assert largest.keys() == {stage, f"{stage} resumed"}
    assert max(largest.values()) < 1e-9


def test_accumulation_steps_change_nothing_either(zygote: Zygote) -> None:
    largest = measure(zygote, (1, 2), steps=10, stages=["finetune"], accumulate=2)
    assert max(largest.values()) < 1e-9


def test_losses_that_wait_to_be_logged_survive_a_restart_in_double_precision(zygote: Zygote) -> None:
    largest = measure(zygote, (1, 1), steps=20, stages=["pretrain"], log_every=7)
    assert max(largest.values()) < 1e-12


@pytest.mark.parametrize(("stage", "optimizer"), [("pretrain", "muon"), ("finetune", "adamw")])
def test_a_sharded_model_trains_as_a_whole_one_and_checkpoints_change_hands(
    zygote: Zygote, tmp_path: Path, stage: Stage, optimizer: str
) -> None:
    prepare(zygote, tmp_path, weights=stage == "finetune")
    common: dict[str, Any] = {
        "stage": stage,
        "folder": str(tmp_path),
        "steps": 20,
        "precision": "64-true",
        "optimizer": optimizer,
        "clip_norm": 1.0,
    }
    call(zygote, 1, "train", out=str(tmp_path / "whole"), **common)
    hand_over(zygote, tmp_path / "handed", [(2, "fsdp"), (1, "ddp"), (2, "fsdp")], **common)
    assert losses(tmp_path / "handed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-9)
    handed, whole = (load_file(tmp_path / run / "encoder.safetensors") for run in ("handed", "whole"))
    assert handed.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(handed[name], tensor, rtol=1e-9, atol=1e-12)
