"""Downloads over connections that break, from servers that lie, on full disks, by several processes, and offline."""

import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from openmae.errors import UserError
from openmae.weights import downloading, transfer
from openmae.weights.downloading import Digest, download, part_of
from tests.weights.web import Site, serving

CONTENT = bytes(range(256)) * 1024
OTHER = CONTENT[::-1]
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest()[:8])
PLACES = {
    "before the body": 0,
    "after a byte": 1,
    "in the middle": len(CONTENT) // 2,
    "before the end": len(CONTENT) - 1,
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setattr(transfer, "TIMEOUTS", (5.0, 0.3))
    monkeypatch.setattr(transfer, "PIECE", 4096)
    monkeypatch.setattr(downloading, "BETWEEN_LOOKS", 0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.pth"


def fetch(site: Site, file: Path, digest: Digest | None = SHA256) -> Path:
    return download(site.url, file, digest=digest, remedy="bring it yourself")


def stop_after(cut: int, site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a process has received that ended after `cut` bytes."""
    site.cuts = [cut]
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "ATTEMPTS", 1)
        with pytest.raises(UserError, match="the connection"):
            fetch(site, file)
    site.asked.clear()


def in_the_cache(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir() if path.name != downloading.LOCK}


def test_a_file_is_downloaded_once_and_nothing_lies_beside_it(site: Site, file: Path) -> None:
    for _ in range(2):
        assert fetch(site, file).read_bytes() == CONTENT
    assert site.asked == [""]
    assert in_the_cache(file) == {"model.pth"}


def test_the_cache_answers_without_a_network(site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(site, file)

    def no_network(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("no network")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert fetch(site, file).read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*\); bring it yourself"):
        fetch(site, file.with_name("other.pth"))


@pytest.mark.parametrize("cut", PLACES.values(), ids=PLACES)
def test_a_broken_connection_is_continued_where_it_broke(site: Site, file: Path, said: list[str], cut: int) -> None:
    site.cuts = [cut]
    assert fetch(site, file).read_bytes() == CONTENT
    first, second = site.asked
    assert first == ""
    start = int(second.removeprefix("bytes=").rstrip("-") or 0)
    assert cut - 2 * transfer.PIECE < start <= cut
    assert "trying again after" in said[0]


@pytest.mark.parametrize("cut", PLACES.values(), ids=PLACES)
def test_a_process_that_ended_in_the_middle_is_continued_by_the_next(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    stop_after(cut, site, file, monkeypatch)
    assert not file.exists()
    received = part_of(file).stat().st_size
    assert fetch(site, file).read_bytes() == CONTENT
    assert site.asked == [f"bytes={received}-" if received else ""]


def test_a_file_that_had_arrived_when_the_process_was_killed_is_not_asked_for_again(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "sync_file", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(site, file)
    assert fetch(site, file).read_bytes() == CONTENT
    assert site.asked == [""]


def test_a_server_that_cannot_send_the_rest_is_asked_for_all(site: Site, file: Path) -> None:
    site.ranges, site.cuts = False, [len(CONTENT) // 2]
    assert fetch(site, file, None).read_bytes() == CONTENT


def test_a_file_of_unknown_size_begins_anew_where_nothing_can_be_continued(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(len(CONTENT) // 2, site, file, monkeypatch)
    site.ranges = site.sized = False
    assert fetch(site, file, None).read_bytes() == CONTENT


@pytest.mark.parametrize("obeys", [True, False])
@pytest.mark.parametrize("content", [OTHER, OTHER + b"more", OTHER[: len(OTHER) // 3]])
def test_a_file_that_changes_between_two_halves_is_not_spliced(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch, obeys: bool, content: bytes
) -> None:
    stop_after(len(CONTENT) // 2, site, file, monkeypatch)
    site.content, site.etag, site.obeys_if_range = content, '"second"', obeys
    if len(content) < len(CONTENT) // 2 and not obeys:
        site.ranges = False
    assert fetch(site, file, None).read_bytes() == content


def test_without_a_mark_of_the_version_nothing_is_continued(site: Site, file: Path) -> None:
    site.etag, site.cuts = "", [len(CONTENT) // 2]
    assert fetch(site, file, None).read_bytes() == CONTENT
    assert site.asked == ["", ""]


def test_halves_that_do_not_fit_are_downloaded_whole(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    site.content = OTHER
    stop_after(len(CONTENT) // 2, site, file, monkeypatch)
    site.content = CONTENT  # under the same mark
    assert fetch(site, file).read_bytes() == CONTENT
    assert any("halves do not fit" in message for message in said)


def test_a_file_with_another_hash_is_refused_and_removed(site: Site, file: Path) -> None:
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=f"its SHA-256 begins .{{8}}, not {SHA256.digits}"):
        fetch(site, file)
    assert in_the_cache(file) == set()


@pytest.mark.parametrize("digits", [6, 32])
def test_an_md5_is_verified_by_as_many_digits_as_are_known(site: Site, file: Path, digits: int) -> None:
    known = hashlib.md5(CONTENT).hexdigest()[:digits]
    assert fetch(site, file, Digest("md5", known)).is_file()
    wrong = Digest("md5", known[:-1] + ("1" if known[-1] == "0" else "0"))
    with pytest.raises(UserError, match="MD5"):
        fetch(site, file, wrong)


def test_a_damaged_file_in_the_cache_is_replaced_and_kept_aside(site: Site, file: Path, said: list[str]) -> None:
    file.parent.mkdir()
    file.write_bytes(OTHER)
    assert fetch(site, file).read_bytes() == CONTENT
    assert "not the published file" in said[0]
    assert file.with_name("model.pth.damaged").read_bytes() == OTHER


def test_redirects_are_followed_and_a_circle_of_them_is_one_sentence(site: Site, file: Path) -> None:
    site.redirect = "/elsewhere/model.bin"
    assert fetch(site, file).read_bytes() == CONTENT
    assert file.name == "model.pth"
    site.circle = True
    with pytest.raises(UserError, match="redirects in a circle"):
        fetch(site, file.with_name("other.pth"))


class Refused(NamedTuple):
    status: int
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Refused(404, "there is no file at .*404"),
        Refused(410, "there is no file at"),
        Refused(403, "is not open to everyone .403 Forbidden"),
        Refused(401, "is not open to everyone"),
        Refused(418, "answers 418"),
        Refused(500, "the server answers 500 .*bring it yourself"),
        Refused(503, "the server answers 503 .*bring it yourself"),
    ],
)
def test_a_server_that_refuses_is_one_sentence(site: Site, file: Path, case: Refused) -> None:
    site.status = [case.status] * transfer.ATTEMPTS
    with pytest.raises(UserError, match=case.words) as caught:
        fetch(site, file)
    assert "\n" not in str(caught.value)
    assert not file.exists()
    tried = transfer.ATTEMPTS - len(site.status)
    assert tried == (transfer.ATTEMPTS if case.status in transfer.TRANSIENT else 1)


def test_an_error_that_passes_is_waited_for(site: Site, file: Path) -> None:
    site.status = [503, 500]
    assert fetch(site, file).read_bytes() == CONTENT


def test_a_web_page_is_no_file(site: Site, file: Path) -> None:
    site.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(UserError, match=r"is a web page, not a file; .*hf://owner/name"):
        fetch(site, file, None)


def test_a_slow_server_is_waited_for(site: Site, file: Path) -> None:
    site.pause = 0.15  # four pauses are longer than the timeout, one is shorter
    assert fetch(site, file).read_bytes() == CONTENT
    assert site.asked == [""]


def test_a_server_that_never_answers_is_given_up(site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUTS", (5.0, 0.05))
    site.silent = True
    with pytest.raises(UserError, match=r"the server does not answer\); bring it yourself"):
        fetch(site, file)


def test_a_port_without_a_server_is_one_sentence(file: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.pth"
        with pytest.raises(UserError, match=r"the server cannot be reached\); bring it yourself"):
            download(url, file, digest=None, remedy="bring it yourself")


def test_progress_between_failures_gives_new_attempts(site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MUCH", 20_000)
    site.cuts = [30_000] * 7
    assert fetch(site, file).read_bytes() == CONTENT
    assert len(site.asked) == 8


def test_a_disk_without_room_is_noticed_before_the_download(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"has room for 0 MB, .* set XDG_CACHE_HOME"):
        fetch(site, file)


def test_a_disk_that_fills_up_is_one_sentence_and_gets_its_space_back(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(response: Any) -> Iterator[bytes]:
        yield next(iter(response.iter_content(1000)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer, "_pieces", full)
    with pytest.raises(UserError, match=r"the disk of .* is full; make room"):
        fetch(site, file)
    assert in_the_cache(file) == set()


def test_a_cache_that_cannot_be_written_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot be written .*set XDG_CACHE_HOME"):
        fetch(site, tmp_path / "cache" / "model.pth")


CHILD = """
import sys; from pathlib import Path
from openmae.weights.downloading import download
download(sys.argv[1], Path(sys.argv[2]), digest=None, remedy="")
"""


def test_of_two_processes_one_downloads_and_the_other_waits(site: Site, file: Path, said: list[str]) -> None:
    site.pause = 0.2
    command = [sys.executable, "-c", CHILD, site.url, str(file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        while not part_of(file).exists():
            assert child.poll() is None
        assert fetch(site, file).read_bytes() == CONTENT
        assert child.wait() == 0
    assert site.asked == [""]
    assert f"is being downloaded by process {child.pid} on " in said[0]


def test_a_process_that_stands_still_is_not_waited_for_without_end(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "PATIENCE", 0.05)

    def held(*_: Any) -> NoReturn:
        raise OSError(errno.EAGAIN, "held")

    monkeypatch.setattr("fcntl.lockf", held)
    with pytest.raises(UserError, match="without a new byte"):
        fetch(site, file)


def test_a_file_system_without_locks_does_not_hinder_a_download(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> NoReturn:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.lockf", unsupported)
    assert fetch(site, file).read_bytes() == CONTENT
    assert in_the_cache(file) == {"model.pth"}
