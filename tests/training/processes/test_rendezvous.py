import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from openmae.training.processes.rendezvous import meet, use_fresh_store

HOST = "127.0.0.1"


@pytest.fixture
def shared() -> TCPStore:
    """What torchrun keeps for all attempts."""
    return TCPStore(HOST, 0, None, True, timedelta(seconds=10), wait_for_workers=False)


def attempt(shared: TCPStore, order: Iterable[int]) -> list[TCPStore]:
    """The stores that the processes of one attempt agree on; they come in that order."""

    def come(place_and_rank: tuple[int, int]) -> TCPStore:
        place, rank = place_and_rank
        time.sleep(0.2 * place)
        own = TCPStore(HOST, shared.port, None, False, timedelta(seconds=10), wait_for_workers=False)
        return meet(own, HOST, rank=rank, world_size=3, timeout=timedelta(seconds=10))

    with ThreadPoolExecutor(max_workers=3) as threads:
        return list(threads.map(come, enumerate(order)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_processes_meet_those_of_their_own_attempt(shared: TCPStore, order: tuple[int, ...]) -> None:
    first, second = attempt(shared, (0, 1, 2)), attempt(shared, order)
    ports = [{store.port for store in stores} for stores in (first, second)]
    assert [len(found) for found in ports] == [1, 1]
    assert ports[0] != ports[1]
    second[0].set("said", "by one")
    assert [store.get("said") for store in second] == [b"by one"] * 3


@pytest.mark.parametrize("rank", [0, 1])
def test_who_does_not_come_is_named(shared: TCPStore, rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {1 - rank} has not come within 0 s; look at what it said"):
        meet(shared, HOST, rank=rank, world_size=2, timeout=timedelta(seconds=0.2))


def test_nothing_is_done_where_torchrun_does_not_keep_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        for name, value in {"MASTER_ADDR": HOST, "MASTER_PORT": str(nobody.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        use_fresh_store()
