from collections.abc import Iterator

import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]

from openmae.errors import UserError
from openmae.training.processes.leaving import leaving_in_order
from openmae.training.processes.stopping import Interrupted


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_a_group_is_taken_down_at_the_end_of_the_work(group: None) -> None:
    with leaving_in_order():
        assert torch.distributed.is_initialized()
    assert not torch.distributed.is_initialized()


def test_a_group_is_taken_down_after_a_request_to_stop(group: None) -> None:
    with pytest.raises(Interrupted), leaving_in_order():
        raise Interrupted
    assert not torch.distributed.is_initialized()


def test_after_an_error_nobody_is_waited_for(group: None) -> None:
    with pytest.raises(UserError), leaving_in_order():
        raise UserError("no room; make some")
    assert torch.distributed.is_initialized()


def test_a_group_is_taken_down_although_the_others_do_not_come(group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def barrier(**_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "barrier", barrier)
    with leaving_in_order():
        pass
    assert not torch.distributed.is_initialized()


def test_one_process_has_no_group_to_leave() -> None:
    with leaving_in_order():
        assert not torch.distributed.is_initialized()
