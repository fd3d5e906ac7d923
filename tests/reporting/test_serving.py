"""Pages are served to this machine alone, by its own names."""

import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra explore or atlas")

from openmae.reporting.serving import serve, serving


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The smallest ASGI application."""
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def get(address: str, host: str | None = None) -> bytes:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return bytes(answer.read())


def test_a_page_is_served_within_the_block_and_not_after_it() -> None:
    with serving(hello) as address:
        assert address.startswith("http://127.0.0.1:")
        assert get(address) == b"hello"
        assert get(address, "localhost:1234") == b"hello"
    with pytest.raises(urllib.error.URLError):
        get(address)


def test_a_request_by_another_name_is_refused() -> None:
    with serving(hello) as address, pytest.raises(urllib.error.HTTPError, match="400"):
        get(address, "evil.example")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_is_served_until_it_is_told_to_end(sent: signal.Signals, said: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it

    def look_and_end() -> None:
        while not said:
            time.sleep(0.01)
        answers.append(get(said[0].split()[1]))
        os.kill(os.getpid(), sent)

    answers: list[bytes] = []
    thread = threading.Thread(target=look_and_end)
    thread.start()
    try:
        serve(hello, title="hello", port=None, usual_port=0)
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    thread.join()
    assert answers == [b"hello"]
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(urllib.error.URLError):
        get(said[0].split()[1])


def test_a_port_that_is_taken_is_refused_or_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=rf"port {port} cannot be used .*give --port another"),
            serving(hello, port=port),
        ):
            pass
        with serving(hello, usual_port=port) as address:
            assert address != f"http://127.0.0.1:{port}"
            assert get(address) == b"hello"
