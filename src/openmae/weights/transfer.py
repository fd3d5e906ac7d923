"""One file from a web server: continued where a connection broke, waits are bounded, two files are never spliced."""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from openmae.errors import UserError, one_line
from openmae.files import sync_file, write_text
from openmae.reporter import ProgressView, say

if TYPE_CHECKING:
    from requests import Response

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
TIMEOUTS = (10.0, 30.0)  # seconds: to connect, and between two pieces; a server may be slow as long as it sends
PIECE = 2**16
MUCH = 2**20  # bytes; an attempt that received more was no failure
TRANSIENT = (408, 429, 500, 502, 503, 504)
MB = 1e6


class Unreachable(Exception):
    """The file did not arrive; the message says why."""


class Broken(Exception):
    """This attempt failed; the next one may succeed."""


class Origin(NamedTuple):
    """The file that a server has, so that a later attempt continues the same file."""

    url: str
    validator: str
    """Strong ETag or date of change; "" when the server names none, and then nothing is continued."""
    size: int | None
    """In bytes; None when the server does not give it."""


def receive(url: str, part: Path) -> bool:
    """Download `url` into `part`, from where an earlier attempt ended, until it is complete.

    Returns:
        whether it continues what an earlier attempt had received.

    Raises:
        Unreachable: when no attempt succeeds.
        UserError: when there is no such file, it is not open to everyone, or the disk is full.
    """
    import requests

    failures = 0
    while True:
        before = _size(part)
        try:
            return _receive_rest(url, part)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise UserError(f"{shown(url)} is no address ({one_line(error)}); check it") from error
        except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
            raise Unreachable(_reason(error)) from error
        except (requests.RequestException, Broken) as error:
            received = _size(part)
            failures = 1 if received - before >= MUCH else failures + 1
            if failures == ATTEMPTS:
                kept = f"; {received / MB:.1f} MB are kept, and the next attempt continues there" if received else ""
                raise Unreachable(f"{_reason(error)}{kept}") from error
            say(f"{shown(url)}: {_reason(error)}; trying again after {received / MB:.1f} MB")
            time.sleep(PAUSE * 2 ** (failures - 1))


def forget(part: Path) -> None:
    """Delete what was received so far."""
    for file in (part, _origin_file(part)):
        file.unlink(missing_ok=True)


def shown(url: str) -> str:
    """An address for messages: without passwords and the signatures of private links.

    >>> shown("https://me:secret@host.org/a.pth?signature=1")
    'https://host.org/a.pth'
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0].partition('#')[0]}"


def _receive_rest(url: str, part: Path) -> bool:
    """One attempt; returns whether it continued."""
    import requests

    origin = _read_origin(part, url)
    start = _size(part) if origin is not None else 0
    if origin is not None and origin.size == start:
        return True  # complete, but stopped before it was used
    headers = {"Accept-Encoding": "identity", "User-Agent": "openmae"}
    if origin is not None and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": origin.validator}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        _require_file(response, url)
        here = _origin_of(response, url)
        if response.status_code == 206:
            # A server may ignore If-Range: the answer itself must fit what is here.
            if origin is None or _start_of(response) != start or here != origin:
                forget(part)
                raise Broken("the file has changed on the server")
        else:
            start = 0
            forget(part)
            part.touch()
            if here.validator:
                write_text(_origin_file(part), json.dumps(here._asdict()))
        _require_room(part, here, start)
        _write(response, part, here, start)
    received = _size(part)
    if here.size is not None and received != here.size:
        if received > here.size:
            forget(part)
        raise Broken(f"the connection ended after {received:,} of {here.size:,} bytes")
    sync_file(part)
    return start > 0


def _write(response: "Response", part: Path, origin: Origin, start: int) -> None:
    title = origin.url.rpartition("/")[2].partition("?")[0]
    view: AbstractContextManager[ProgressView | None] = nullcontext()
    if origin.size is not None:
        view = ProgressView(f"downloading {title}", origin.size, done=start)
    done = start
    with part.open("ab") as file, view as bar:
        for piece in _pieces(response):
            file.write(piece)
            done += len(piece)
            if bar is not None and origin.size is not None:
                bar.update(done, f"downloading {title}", f"{done / MB:,.1f} of {origin.size / MB:,.1f} MB")


def _pieces(response: "Response") -> Iterator[bytes]:
    yield from response.iter_content(PIECE)


def _require_file(response: "Response", url: str) -> None:
    """Raise unless the answer is the file or a part of it."""
    code = response.status_code
    answer = f"{code} {response.reason}".strip()
    place = shown(url)
    if code in TRANSIENT:
        raise Broken(f"the server answers {answer}")
    if code in (404, 410):
        raise UserError(f"there is no file at {place} ({answer}); check the address")
    if code in (401, 403, 407):
        raise UserError(f"{place} is not open to everyone ({answer}); download it yourself and give the file")
    if code == 416:
        raise Broken("the file has become shorter on the server")
    if code not in (200, 206):
        raise UserError(f"the server of {place} answers {answer}, not a file; check the address")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise UserError(
            f"{place} is a web page, not a file; give the address of its download (for the Hugging Face hub: "
            "hf://owner/name)"
        )


def _origin_of(response: "Response", url: str) -> Origin:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return Origin(url, "", None)  # the sizes are those of compressed bytes
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    partial = response.status_code == 206
    size = response.headers.get("Content-Range", "").rpartition("/")[2] if partial else ""
    size = size if partial else response.headers.get("Content-Length", "")
    return Origin(url, validator, int(size) if size.isdecimal() else None)


def _start_of(response: "Response") -> int | None:
    """The first byte of a partial answer."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else None


def _require_room(part: Path, origin: Origin, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = 0 if origin.size is None else origin.size - start
    if needed > free:
        raise UserError(
            f"{part.parent} has room for {free / MB:,.0f} MB, and {needed / MB:,.0f} MB are needed; make room, or set "
            "XDG_CACHE_HOME to a folder on another disk"
        )


def _origin_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_origin(part: Path, url: str) -> Origin | None:
    """Where an earlier attempt got `part` from; None when it cannot be continued."""
    try:
        stored: dict[str, Any] = json.loads(_origin_file(part).read_text(encoding="utf-8"))
        origin = Origin(str(stored["url"]), str(stored["validator"]), stored["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    too_long = _size(part) > (math.inf if origin.size is None else origin.size)
    return None if origin.url != url or too_long or not part.is_file() else origin


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: Exception) -> str:
    """Why a connection failed, without the names of a library's objects."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be verified"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "it redirects in a circle"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    text = one_line(error)
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return "the server does not answer"
    if "resolve" in text or "resolution" in text:
        return "no address is known for the host; there may be no network"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "aborted" in text:
        return "the connection broke"
    return text if isinstance(error, Broken) else "the server cannot be reached"
