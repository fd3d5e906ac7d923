import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from openmae.data.sources import storage, waiting
from openmae.data.sources.waiting import StorageLost, wait_for

PLACE = "s3://bucket/1.png"


class ClientPayloadError(Exception):
    """As aiohttp calls an answer that was cut."""


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """None between the tries."""
    monkeypatch.setattr(waiting, "PAUSES", (0.0, 0.0))


def failing(*errors: Exception) -> Callable[[], str]:
    """A request that ends with each of these errors in turn, and then with an answer."""
    left = list(errors)

    def action() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return action


def test_a_request_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    end = threading.Event()
    with pytest.raises(StorageLost, match=r"^s3://bucket/1\.png has given no answer for 0 s; check the network"):
        wait_for(PLACE, end.wait)
    end.set()


def test_a_large_file_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "SLOWEST", 10.0)

    def slow() -> str:
        time.sleep(0.05)
        return "answer"

    assert wait_for(PLACE, slow, size=50) == "answer"
    with pytest.raises(StorageLost):
        wait_for(PLACE, slow)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), ClientPayloadError("cut")])
def test_a_connection_that_breaks_is_tried_three_times(error: Exception) -> None:
    assert wait_for(PLACE, failing(error, error)) == "answer"
    with pytest.raises(StorageLost, match=rf"^the connection to s3://bucket/1\.png breaks \({type(error).__name__}"):
        wait_for(PLACE, failing(error, error, error))


def test_a_broken_connection_is_found_behind_another_error() -> None:
    behind = OSError("driver")
    behind.__cause__ = ConnectionResetError()
    assert wait_for(PLACE, failing(behind)) == "answer"


@pytest.mark.parametrize("error", [FileNotFoundError(PLACE), PermissionError(PLACE), RuntimeError("a bug")])
def test_other_errors_are_not_tried_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        wait_for(PLACE, failing(error))


def test_a_driver_without_its_thread_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So some versions of fsspec are in a forked process: the thread that talks to the server is the parent's."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)
    fsspec.get_filesystem_class("http").clear_instance_cache()
    nobodys = asyncio.new_event_loop()
    monkeypatch.setattr(fsspec.asyn, "loop", [nobodys])
    with pytest.raises(StorageLost, match="no answer"):
        storage.read_file("http://127.0.0.1:9/1.png")
    nobodys.run_until_complete(asyncio.sleep(0.3))  # lets the request come to its end
    fsspec.get_filesystem_class("http").clear_instance_cache()
    nobodys.close()
