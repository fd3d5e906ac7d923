"""A small web server for tests of downloads, which can break, lie and wait."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEVER = 5.0


@dataclass
class Site:
    """A server with one file under every path, and how it behaves."""

    content: bytes
    url: str = ""
    etag: str = '"first"'
    ranges: bool = True
    """Whether it can send the rest of a file."""
    sized: bool = True
    """Whether it says how long a file is."""
    obeys_if_range: bool = True
    cuts: list[int | None] = field(default_factory=list)
    """For each answer in turn: after how many bytes of its body the connection breaks; None: never."""
    status: list[int] = field(default_factory=list)
    """For each answer in turn: an error instead of the file."""
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    """Where every other path leads to."""
    circle: bool = False
    """Redirect without an end."""
    pause: float = 0.0
    """Seconds between a fourth of the body and the next."""
    silent: bool = False
    """Accept the connection and never answer."""
    asked: list[str] = field(default_factory=list)
    """The Range of each request that was answered with the file."""
    closing: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.silent:
            self.closing.wait(NEVER)
            request.close_connection = True
            return
        if self.circle or (self.redirect and request.path != self.redirect):
            request.send_response(302)
            request.send_header("Location", self.redirect or "/model.pth")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.status and (code := self.status.pop(0)) != 200:
            request.send_error(code)
            return
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        same = not self.obeys_if_range or request.headers.get("If-Range") == self.etag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges and same else 0
        body = self.content[start:]
        request.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream", **self.headers}
        if not self.sized:
            del headers["Content-Length"]
            headers["Connection"] = "close"
        if self.etag:
            headers["ETag"] = self.etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        self._send(request, body if cut is None else body[:cut])
        request.close_connection = True

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        step = len(body) if not self.pause else max(1, len(body) // 4)
        for start in range(0, len(body), step or 1):
            request.wfile.write(body[start : start + step])
            request.wfile.flush()
            time.sleep(self.pause)


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Run the server within the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/model.pth"
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
