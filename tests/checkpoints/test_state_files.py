import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmae.checkpoints.checkpoint import Checkpoint
from openmae.checkpoints.state_files import join_state, split_state

WRITTEN = """{
 "pending_losses": [
  0.1
 ],
 "skipped_in_a_row": 2,
 "numerics": {
  "threads": 1
 },
 "scaler": {
  "scale": 65536.0
 },
 "step": 7,
 "optimizer": {
  "weight": {
   "count": 3
  }
 }
}"""


def test_the_format_of_the_state_on_disk_is_this() -> None:
    """Runs of all versions continue from it: a change here needs a way to read the old one."""
    moment = torch.arange(3.0)
    checkpoint = Checkpoint(
        step=7,
        model={},
        optimizer={"weight": {"exp_avg": moment, "count": 3}},
        pending_losses=[0.1],
        skipped_in_a_row=2,
        numerics={"threads": 1},
        scaler={"scale": 65536.0},
    )
    tensors, text = split_state(checkpoint)
    assert text == WRITTEN
    assert tensors == {"weight:exp_avg": moment}


def test_without_a_scaler_there_is_none_in_the_file() -> None:
    _, text = split_state(Checkpoint(step=1, model={}, optimizer={}))
    assert set(json.loads(text)) == {"pending_losses", "skipped_in_a_row", "numerics", "step", "optimizer"}
    assert join_state(text, {}, model={}, ema=None).scaler is None


NAMES = st.text("abc.", min_size=1)  # of parameters; a colon ends them
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    step=st.integers(0, 2**40),
    losses=st.lists(finite),
    skipped=st.integers(0, 3),
    numerics=st.dictionaries(st.text(), st.text() | st.integers()),
    scaler=st.none() | st.dictionaries(st.text(), finite),
    moments=st.dictionaries(NAMES, st.dictionaries(st.sampled_from(["step", "exp_avg", "a:b"]), finite, min_size=1)),
    counts=st.dictionaries(NAMES, st.dictionaries(st.sampled_from(["count", "scale"]), finite, min_size=1)),
)
def test_every_state_comes_back_bit_for_bit(
    step: int,
    losses: list[float],
    skipped: int,
    numerics: dict[str, str | int],
    scaler: dict[str, float] | None,
    moments: dict[str, dict[str, float]],
    counts: dict[str, dict[str, float]],
) -> None:
    tensors = {
        parameter: {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}
        for parameter, values in moments.items()
    }
    optimizer = {name: {**counts.get(name, {}), **tensors.get(name, {})} for name in {*counts, *tensors}}
    checkpoint = Checkpoint(
        step=step,
        model={},
        optimizer=optimizer,
        pending_losses=losses,
        skipped_in_a_row=skipped,
        numerics=numerics,
        scaler=scaler,
    )
    files, text = split_state(checkpoint)
    back = join_state(text, files, model={}, ema=None)
    assert (back.step, list(back.pending_losses), back.skipped_in_a_row) == (step, losses, skipped)
    assert (back.numerics, back.scaler) == (numerics, scaler)
    assert [math.copysign(1, loss) for loss in back.pending_losses] == [math.copysign(1, loss) for loss in losses]
    assert back.optimizer == optimizer


def test_a_loss_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        split_state(Checkpoint(step=1, model={}, optimizer={}, pending_losses=[math.nan]))
