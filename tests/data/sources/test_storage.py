import contextlib
import functools
import http.server
import importlib
import io
import re
import sys
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.sources import Source, open_data, parquet, shards, storage

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]
Put = Callable[[str, bytes], None]


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with index pages; where `ranges` is true, parts of files as well, as real servers do."""

    ranges = True
    paths: list[tuple[str, str]]

    def log_message(self, *_: Any) -> None: ...

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that has read enough closes the connection
            super().handle()

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        self.paths.append((self.path, self.headers.get("Range", "")))
        if not (wanted and self.ranges and file.is_file()):
            super().do_GET()
            return
        data, (first, last) = file.read_bytes(), (int(number) for number in wanted.groups())
        part = data[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class ServerWithoutRanges(Server):
    ranges = False


def serve(folder: Path, kind: type[Server]) -> Iterator[str]:
    kind.paths = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    yield from serve(tmp_path, Server)


@pytest.fixture
def web_without_ranges(tmp_path: Path) -> Iterator[str]:
    yield from serve(tmp_path, ServerWithoutRanges)


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in fsspec's own file system, which lives in this process and its forks."""
    folder = f"memory://{uuid.uuid4()}"
    yield folder
    fsspec.filesystem("memory").rm(folder, recursive=True)


@pytest.fixture(params=["memory", "web", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Put]:
    """The URL of a folder, and how to put a file there."""
    url = f"file://{tmp_path}" if request.param == "file" else str(request.getfixturevalue(request.param))

    def put(name: str, data: bytes) -> None:
        if request.param == "memory":
            fsspec.filesystem("memory").pipe(f"{url}/{name}", data)
            return
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    return url, put


def parquet_bytes(*images: bytes, **more: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [{"bytes": image} for image in images], **more}), buffer, row_group_size=1)
    return buffer.getvalue()


def shard_bytes(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# Every kind of data at every kind of place


def test_a_folder_of_images_behind_a_url(place: tuple[str, Put], read_everywhere: ReadEverywhere) -> None:
    url, put = place
    for name in ("train/cat/1.png", "train/cat/deep/2.JPG", "train/dog/1.png", "val/dog/3.png", "train/notes.txt"):
        put(f"set/{name}", name.encode())
    put("set/train/cat/.hidden/1.png", b"")
    put("set/train/cat/._1.png", b"")
    data = open_data(f"{url}/set")
    assert read_everywhere(data.train) == [
        ("cat/1.png", b"train/cat/1.png", 0),
        ("cat/deep/2.JPG", b"train/cat/deep/2.JPG", 0),
        ("dog/1.png", b"train/dog/1.png", 1),
    ]
    assert data.train.classes == ("cat", "dog")
    assert data.test is not None
    assert read_everywhere(data.test) == [("dog/3.png", b"val/dog/3.png", 1)]


@pytest.mark.parametrize("memory_left", [0, 1 << 40])
@pytest.mark.parametrize("spec", ["set", "set/*.parquet", "set/train-{0..1}.parquet"])
def test_parquet_files_behind_a_url(
    place: tuple[str, Put],
    spec: str,
    memory_left: int,
    read_everywhere: ReadEverywhere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "available_memory", lambda: memory_left)
    url, put = place
    put("set/train-0.parquet", parquet_bytes(b"one", b"two", label=[1, 0]))
    put("set/train-1.parquet", parquet_bytes(b"three", label=[2]))
    assert read_everywhere(open_data(f"{url}/{spec}").train) == [
        ("train-0.parquet:0", b"one", 1),
        ("train-0.parquet:1", b"two", 0),
        ("train-1.parquet:0", b"three", 2),
    ]


def test_one_parquet_file_with_paths_beside_it_behind_a_url(place: tuple[str, Put]) -> None:
    url, put = place
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": ["deep/1.png", "../2.png"]}), buffer)
    put("set/x.parquet", buffer.getvalue())
    put("set/deep/1.png", b"one")
    source = open_data(f"{url}/set/x.parquet").train
    assert source.read(0) == b"one"
    with pytest.raises(OSError, match="leaves the folder"):
        source.read(1)


@pytest.mark.parametrize("spec", ["set", "set/*.tar", "set/train-{0..1}.tar"])
def test_tar_shards_behind_a_url(place: tuple[str, Put], spec: str, read_everywhere: ReadEverywhere) -> None:
    url, put = place
    put("set/train-0.tar", shard_bytes(a_jpg=b"one", a_cls=b"1", b_jpg=b"two" * 1000, b_cls=b"0"))
    put("set/train-1.tar", shard_bytes(c_jpg=b"three", c_cls=b"1"))
    put("set/classes.txt", b"cat\ndog\n")
    source = open_data(f"{url}/{spec}").train
    assert read_everywhere(source) == [
        ("train-0.tar/a.jpg", b"one", 1),
        ("train-0.tar/b.jpg", b"two" * 1000, 0),
        ("train-1.tar/c.jpg", b"three", 1),
    ]
    assert source.classes == ("cat", "dog")


def test_a_label_file_labels_a_folder_behind_a_url(place: tuple[str, Put], tmp_path: Path) -> None:
    url, put = place
    put("set/train/1.png", b"one")
    put("set/train/2.png", b"two")
    put("set/val/1.png", b"three")
    (tmp_path / "labels.csv").write_text(f"path,label\ntrain/2.png,cat\n{url}/set/val/1.png,dog\n")
    data = open_data(f"{url}/set", labels=str(tmp_path / "labels.csv"))
    assert data.test is not None
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([-1, 0], [1])


def test_a_query_belongs_to_a_url_and_not_to_a_pattern(web: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(shard_bytes(a_jpg=b"one"))
    assert open_data(f"{web}/x.tar?token=1").train.read(0) == b"one"


def test_names_on_the_web_are_shown_decoded(web: str, tmp_path: Path) -> None:
    for name in ("red cat/ä 100%.png", "dog/1#2?.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    source = open_data(web).train
    assert [source.name(index) for index in range(2)] == ["dog/1#2?.png", "red cat/ä 100%.png"]
    assert [source.read(index).decode() for index in range(2)] == ["dog/1#2?.png", "red cat/ä 100%.png"]
    assert source.classes == ("dog", "red cat")


# The cached index of remote shards


def test_the_headers_of_a_remote_shard_are_read_once_until_it_changes(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("memory")
    files.pipe(f"{memory}/x.tar", shard_bytes(a_jpg=b"one"))
    open_data(f"{memory}/x.tar")
    walked: list[str] = []
    original = shards._walk

    def noting(number: int, shard: str, *rest: Any) -> Any:
        walked.append(shard)
        return original(number, shard, *rest)

    monkeypatch.setattr(shards, "_walk", noting)
    assert open_data(f"{memory}/x.tar").train.read(0) == b"one"
    assert walked == []
    files.pipe(f"{memory}/x.tar", shard_bytes(a_jpg=b"two"))
    assert open_data(f"{memory}/x.tar").train.read(0) == b"two"
    assert walked == [f"{memory}/x.tar"]


# Errors


def test_shards_on_a_web_server_without_ranges_are_refused(web_without_ranges: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(shard_bytes(a_jpg=bytes(1_500_000), b_jpg=bytes(1_500_000), c_jpg=b"x"))
    with pytest.raises(ValueError, match=r"x\.tar"):
        open_data(f"{web_without_ranges}/x.tar")


def test_a_web_server_that_stops_serving_ranges_is_an_error_of_the_image(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.tar").write_bytes(shard_bytes(a_jpg=b"one"))
    source = open_data(f"{web}/x.tar").train
    monkeypatch.setattr(Server, "ranges", False)
    with pytest.raises(OSError, match="bytes where 3 were asked for: the file is cut or no ranges are served"):
        source.read(0)


def test_a_remote_member_above_the_limit_is_refused_before_it_is_fetched(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.filesystem("memory").pipe(f"{memory}/x.tar", shard_bytes(a_jpg=bytes(1000)))
    source = open_data(f"{memory}/x.tar").train
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 999)
    with pytest.raises(OSError, match="1,000 bytes, more than the 999"):
        source.read(0)


def test_a_remote_file_that_has_gone_is_an_error_of_that_image_only(place: tuple[str, Put], tmp_path: Path) -> None:
    url, put = place
    put("set/1.png", b"one")
    put("set/2.png", b"two")
    source = open_data(f"{url}/set").train
    fsspec.url_to_fs(url)[0].rm(f"{url}/set/1.png") if not url.startswith("http") else (tmp_path / "set/1.png").unlink()
    with pytest.raises(FileNotFoundError):
        source.read(0)
    assert source.read(1) == b"two"


def test_every_error_of_a_driver_becomes_an_oserror(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe(f"{memory}/1.png", b"one")
    source = open_data(memory).train

    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("the cloud\nhas gone")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_file", fail)
    with pytest.raises(OSError, match=r"memory://.*/1\.png: RuntimeError: the cloud has gone"):
        source.read(0)


@pytest.mark.parametrize(
    ("spec", "found", "remedy"),
    [
        ("{url}/nowhere", "cannot be listed", "check the path and your access to it"),
        ("{url}/nowhere.tar", "a shard cannot be read", "check that all of them are there"),
        ("{url}/nowhere.parquet", "is not a readable Parquet file", "check that it was copied whole"),
        ("{url}/nowhere/*.tar", "matches no Parquet files and no tar shards", "give a pattern such as"),
        ("{url}/x.tar.gz", "is compressed", "unpack it"),
        ("{url}/set", "no images in", "point --data at a folder"),
    ],
)
def test_remote_data_that_cannot_be_used_say_what_was_found_and_what_to_do(
    place: tuple[str, Put], spec: str, found: str, remedy: str
) -> None:
    url, put = place
    put("set/notes.txt", b"x")
    if url.startswith("file") and "nowhere" in spec and "*" not in spec:
        found, remedy = "there is no", "give a folder"
    if url.startswith("file") and "gz" in spec:
        put("x.tar.gz", b"")
    with pytest.raises(ValueError, match=r".") as caught:
        open_data(spec.format(url=url))
    assert found in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreachable_server_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/photos cannot be listed"):
        open_data("http://127.0.0.1:9/photos")


@pytest.mark.parametrize(
    ("spec", "module", "extra"),
    [
        ("s3://bucket/photos", "s3fs", "s3"),
        ("gs://bucket/photos", "gcsfs", "gcs"),
        ("https://x/y", "fsspec.implementations.http", "http"),
    ],
)
def test_a_missing_driver_is_named_with_what_to_install(
    spec: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: dict[str, Any] = importlib.import_module("fsspec.registry").__dict__["_registry"]
    monkeypatch.delitem(registered, spec.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(
        ValueError, match=rf"^{spec.partition(':')[0]}:// needs .*install pip install 'openmae\[{extra}\]'"
    ):
        open_data(spec)


@pytest.mark.parametrize("spec", ["nonsense://x/y", "zip://a.png::file:///x.zip"])
def test_a_url_of_an_unknown_kind_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"; give "):
        open_data(spec)


def test_no_connection_is_kept_in_a_source(web: str, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"one")
    source = open_data(web).train
    source.read(0)
    assert not any(isinstance(value, fsspec.AbstractFileSystem) for value in vars(source).values())


# Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{098..101}.tar", ["a-098.tar", "a-099.tar", "a-100.tar", "a-101.tar"]),
        ("{1..2}/{1..2}.tar", ["1/1.tar", "1/2.tar", "2/1.tar", "2/2.tar"]),
        ("s3://bucket/a-{0..1}.tar", ["s3://bucket/a-0.tar", "s3://bucket/a-1.tar"]),
    ],
)
def test_braces_expand_to_numbers(pattern: str, expected: list[str]) -> None:
    assert storage.expand(pattern) == expected


# Files that are read by ranges


def test_an_open_file_behind_a_url_reads_as_a_local_one(place: tuple[str, Put], tmp_path: Path) -> None:
    url, put = place
    data = bytes(range(256)) * 8_000
    put("x.bin", data)
    (tmp_path / "same.bin").write_bytes(data)
    with storage.open_file(storage.resolve(f"{url}/x.bin")) as remote, (tmp_path / "same.bin").open("rb") as local:
        for offset, whence, size in ((0, 0, 10), (1_900_000, 0, 300_000), (-7, 2, 100), (-50, 1, 20), (3, 0, -1)):
            assert remote.seek(offset, whence) == local.seek(offset, whence)
            assert remote.read(size) == local.read(size)
            assert remote.tell() == local.tell()
