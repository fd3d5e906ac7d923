import os
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning_fabric import Fabric
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from openmae.training.processes import watching
from openmae.training.processes.watching import Watch
from tests.faults.processes import start_ranks
from tests.faults.zygote import Zygote


def say_who_the_other_is(arguments: list[str]) -> int:
    """In a child: the name of the other process, before either has given a sign of life."""
    from openmae.recipes import find_recipe
    from openmae.training.processes.devices import start_fabric
    from openmae.training.processes.watching import Watch

    fabric = start_fabric(find_recipe("fashion-mnist", "pretrain"))
    name = Watch(fabric, 20.0)._name(1 - fabric.global_rank)
    (Path(arguments[0]) / os.environ["RANK"]).write_text(name)
    fabric.barrier()  # what rank 0 keeps ends with it
    return 0


@pytest.mark.slow
def test_another_process_is_known_by_number_and_machine_before_the_first_step(zygote: Zygote, tmp_path: Path) -> None:
    target = f"{__name__}:{say_who_the_other_is.__name__}"
    ranks = start_ranks(zygote, [str(tmp_path)], tmp_path / "said.log", target=target)
    assert [child.wait() for child in ranks] == [0, 0], (tmp_path / "said-0.log").read_text()
    for rank, child in enumerate(ranks):
        told = (tmp_path / str(1 - rank)).read_text()
        assert told == f"rank {rank} (process {child.pid} on {socket.gethostname()})"


class SlowStore:
    """Answers after a while, as one far away does."""

    def check(self, _keys: list[str]) -> bool:
        time.sleep(0.2)
        return False

    def set(self, _key: str, _value: str) -> None:
        time.sleep(0.2)


def watch_of_two(monkeypatch: pytest.MonkeyPatch, store: Any, *, rank: int) -> Watch:
    """The watch of one of two processes, which share the store."""
    monkeypatch.setattr(watching, "_open_store", lambda _: store)
    monkeypatch.setattr(watching, "_places", lambda _: ["here", "there"])
    return Watch(cast(Fabric, SimpleNamespace(global_rank=rank, world_size=2)), 20.0)


@pytest.mark.parametrize("fails", [False, True])
def test_no_thread_is_in_the_store_after_the_block(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Python would cut it off there at its end, and the C++ library would abort the process."""
    monkeypatch.setattr(watching, "BEAT", 0.01)
    monkeypatch.setattr(watching, "PATIENCE_OF_STORE", 1.0)
    before = set(threading.enumerate())
    try:
        with watch_of_two(monkeypatch, SlowStore(), rank=1):
            time.sleep(0.3)  # a thread is in the middle of a call
            if fails:
                raise ValueError("an error of this process")
    except ValueError:
        assert fails
    assert set(threading.enumerate()) == before


def test_rank_0_keeps_the_store_until_the_others_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=5), wait_for_workers=False)
    first, second = (watch_of_two(monkeypatch, store, rank=rank) for rank in (0, 1))
    ended = threading.Event()

    def leave() -> None:
        first.__exit__(None, None, None)
        ended.set()

    first.__enter__(), second.__enter__()
    threading.Thread(target=leave).start()
    assert not ended.wait(0.3)
    second.__exit__(None, None, None)
    assert ended.wait(5)
