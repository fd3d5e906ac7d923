"""Training is the same run on 1, 2 and 4 processes, also when their number changes on the way."""

import pytest

from tests.faults.worlds import Stage, measure
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
