"""Pages that are served to this machine alone, for as long as their command runs."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from openmae.errors import UserError
from openmae.reporter import say

LOOPBACK = "127.0.0.1"
"""The one address that is listened at: whoever may open the page may see the images."""
PORTS_TRIED = 20


def serve(app: Any, *, title: str, port: int | None, usual_port: int) -> None:
    """Serve an ASGI application until the user presses Ctrl-C, and say where it is.

    Raises:
        UserError: when the port is taken.
    """
    with serving(app, port=port, usual_port=usual_port) as address:
        say(f"{title}: {address} (this machine alone; Ctrl-C ends it)")
        number = address.rpartition(":")[2]
        say(f"  from elsewhere: ssh -L {number}:{LOOPBACK}:{number} THIS-MACHINE, then open the same address there")
        with contextlib.suppress(KeyboardInterrupt), _ended_like_ctrl_c():
            threading.Event().wait()


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A request to end, as a service manager sends it, is an end in order: no file is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def serving(app: Any, *, port: int | None = None, usual_port: int = 0) -> Iterator[str]:
    """Serve an ASGI application within the block; yields its address.

    Requests that come by another name than this machine's own are refused: a page elsewhere could have its name point
    here, and its scripts would be let in.

    Args:
        app: the application.
        port: to listen at; when not given, the first that is free of `usual_port` and those that follow.
        usual_port: 0 takes any.

    Raises:
        UserError: when the port is taken.
    """
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    listening = _listen(port, usual_port)
    guarded = TrustedHostMiddleware(app, allowed_hosts=[LOOPBACK, "localhost"])
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    # Signals go to the main thread, which waits for them.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _listen(port: int | None, usual_port: int) -> socket.socket:
    if port is not None:
        try:
            return _bound(port)
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); give --port another one, or none for any that is free"
            ) from error
    for candidate in [*range(usual_port, usual_port + PORTS_TRIED), 0] if usual_port else [0]:
        with contextlib.suppress(OSError):
            return _bound(candidate)
    raise UserError("no port is free; close other programs that listen, or give --port one that is free")


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.bind((LOOPBACK, port))
    except OSError:
        listening.close()
        raise
    return listening
