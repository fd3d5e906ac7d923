"""A network that fails: between a client and a server, connections are cut, or nothing is ever answered."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

CHUNK = 1 << 16


class Proxy:
    """Passes on what the client and the server say, until it is told to fail.

    `cuts`: of so many answers only the first `after` bytes arrive, then the connection is cut. `silent`: connections
    are accepted and nothing is passed on.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts, self.after, self.silent = 0, 0, False
        self.requests: list[bytes] = []
        """The bytes that clients have sent."""
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        _cut(self._listener)  # wakes the thread that accepts
        self.drop()
        for thread in self._threads:
            thread.join(5)
        for connection in (*self._open, self._listener):
            connection.close()

    def drop(self) -> None:
        """Cut all connections that are open."""
        for connection in self._open:
            _cut(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                self._start(self._up, client, server)
                self._start(self._down, server, client)

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for data in _received(client):
                self.requests.append(data)
                if not self.silent:
                    server.sendall(data)
        _cut(server)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for data in _received(server):
                if self.cuts:
                    self.cuts -= 1
                    client.sendall(data[: self.after])
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _received(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(CHUNK):
        yield data


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
