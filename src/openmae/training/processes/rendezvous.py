"""A fresh store for each attempt of torchrun, so that its processes find each other and none of an earlier attempt.

torchrun gives every attempt the same store. The addresses that processes of an earlier attempt wrote there are still in
it (pytorch/pytorch#135712), and new processes now and then call one that no longer exists.
"""

import os
import time
import uuid
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout

from openmae.errors import UserError

POLL = 0.05
_kept: list[TCPStore] = []  # a store ends when nothing refers to it


def use_fresh_store() -> None:
    """Under torchrun, make an empty store and put its port into MASTER_PORT; elsewhere do nothing."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world_size == 1:
        return
    host = os.environ["MASTER_ADDR"]
    shared = TCPStore(host, int(os.environ["MASTER_PORT"]), None, False, default_pg_timeout, wait_for_workers=False)
    fresh = meet(shared, host, rank=rank, world_size=world_size)
    os.environ["MASTER_PORT"] = str(fresh.port)
    _kept.append(fresh)


def meet(
    shared: TCPStore, host: str, *, rank: int, world_size: int, timeout: timedelta = default_pg_timeout
) -> TCPStore:
    """A new store, kept by rank 0, for the processes that call this at the same time.

    Each of the others asks rank 0 with a word that it has just made up. An answer that an earlier process received
    carries another word, so that no process can take it for its own.

    Args:
        shared: the store that all attempts write to.
        host: where rank 0 is.
        rank: of this process.
        world_size: how many there are.
        timeout: how long to wait for the others.

    Raises:
        UserError: when they do not come.
    """
    ends = time.monotonic() + timeout.total_seconds()
    if rank == 0:
        fresh = TCPStore(host, 0, None, True, timeout, wait_for_workers=False)
        missing = set(range(1, world_size))
        while missing:
            for other in missing:
                if shared.check([f"openmae/asks/{other}"]):
                    word = shared.get(f"openmae/asks/{other}").decode()
                    shared.set(f"openmae/answer/{word}", str(fresh.port))
            missing = {other for other in missing if not fresh.check([f"here/{other}"])}
            if missing and time.monotonic() > ends:
                raise UserError(_did_not_come(f"rank {min(missing)}", timeout))
            time.sleep(POLL)
        return fresh
    word = uuid.uuid4().hex
    shared.set(f"openmae/asks/{rank}", word)
    while not shared.check([f"openmae/answer/{word}"]):
        if time.monotonic() > ends:
            raise UserError(_did_not_come("rank 0", timeout))
        time.sleep(POLL)
    port = int(shared.get(f"openmae/answer/{word}"))
    fresh = TCPStore(host, port, None, False, timeout, wait_for_workers=False)
    fresh.set(f"here/{rank}", "")
    return fresh


def _did_not_come(who: str, timeout: timedelta) -> str:
    return (
        f"{who} has not come within {timeout.total_seconds():.0f} s; look at what it said, and start all of them again"
    )
