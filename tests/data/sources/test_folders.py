import os
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.sources import Source, open_data, scanning, storage

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]


def put(root: Path, *names: str) -> Path:
    """Files of these names below `root`; what is in them is their own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    return root


def names(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def test_a_folder_reads_the_same_in_loader_processes(tmp_path: Path, read_everywhere: ReadEverywhere) -> None:
    source = open_data(str(put(tmp_path, "cat/1.png", "cat/ä.png", "dog/1.png"))).train
    expected = [(name, name.encode(), label) for name, label in (("cat/1.png", 0), ("cat/ä.png", 0), ("dog/1.png", 1))]
    assert read_everywhere(source) == expected


def test_arrays_are_images_too(tmp_path: Path) -> None:
    assert names(open_data(str(put(tmp_path, "a.npy", "b.NPY", "c.npz"))).train) == ["a.npy", "b.NPY"]


def test_images_are_in_the_order_of_the_parts_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "a/2.png", "a b/1.png", "a.png", "a/b/1.png", "a/b.png", "a-b/1.png")
    expected = ["a/2.png", "a/b/1.png", "a/b.png", "a b/1.png", "a-b/1.png", "a.png"]
    assert names(open_data(str(tmp_path)).train) == expected


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/deep/1.png", "elsewhere/2.png")
    root = put(tmp_path / "data", "3.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere" / "deep")
    (root / "4.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    source = open_data(str(root)).train
    assert names(source) == ["3.png", "4.png", "linked/1.png"]
    assert [source.read(index) for index in (1, 2)] == [b"elsewhere/2.png", b"elsewhere/deep/1.png"]


def test_a_link_to_a_folder_above_it_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "a/b/1.png")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "root").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    assert names(open_data(str(tmp_path)).train) == ["a/b/1.png"]


def test_two_links_to_one_folder_show_its_images_in_both_places(tmp_path: Path) -> None:
    put(tmp_path, "data/cat/1.png")
    (tmp_path / "data" / "pet").symlink_to(tmp_path / "data" / "cat")
    assert names(open_data(str(tmp_path / "data")).train) == ["cat/1.png", "pet/1.png"]


def test_a_dangling_link_counts_as_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere.png")
    source = open_data(str(tmp_path)).train
    assert names(source) == ["a.png", "b.png"]
    with pytest.raises(FileNotFoundError):
        source.read(1)


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_names_that_are_not_utf8_are_read_and_shown_escaped(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for name in (b"1\xff.png", b"2.png"):
        (folder / os.fsdecode(name)).write_bytes(name)
    put(tmp_path, "dog/1.png")
    source = open_data(str(tmp_path)).train
    assert names(source) == ["caf\\xe9/1\\xff.png", "caf\\xe9/2.png", "dog/1.png"]
    assert source.classes == ("caf\\xe9", "dog")
    assert source.read(0) == b"1\xff.png"


@pytest.mark.skipif(os.name == "nt", reason="there are no FIFOs")
def test_a_fifo_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(put(tmp_path, "a.png") / "b.png")
    with pytest.raises(OSError, match="a FIFO, not a file"):
        open_data(str(tmp_path)).train.read(1)


@pytest.mark.skipif(os.name == "nt", reason="there are no sockets in folders")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    put(tmp_path, "a.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("b.png")
        source = open_data(str(tmp_path)).train
        with pytest.raises(OSError, match=r"."):
            source.read(1)


def test_a_file_that_became_a_folder_or_has_gone_is_an_error_of_that_image_only(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "a.png", "b.png", "c.png"))).train
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    (tmp_path / "b.png").mkdir()
    with pytest.raises(FileNotFoundError):
        source.read(0)
    with pytest.raises(OSError, match="a folder, not a file"):
        source.read(1)
    assert source.read(2) == b"c.png"


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(storage.MAX_FILE_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(OSError, match=r"1,073,741,825 bytes, more than the 1,073,741,824"):
        open_data(str(tmp_path)).train.read(0)


def test_a_folder_that_cannot_be_read_is_left_out_and_mentioned(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/1.png", "secret/1.png")
    original = scanning._entries

    def forbidding(folder: bytes, *rest: object) -> object:
        if folder.endswith(b"secret"):
            raise PermissionError(13, "Permission denied")
        return original(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "_entries", forbidding)
    assert names(open_data(str(tmp_path)).train) == ["a/1.png"]
    assert said == ["1 folders cannot be read and are left out, the first one 'secret': Permission denied"]


def test_tar_archives_beside_images_are_left_out_and_mentioned(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "a.png", "backup.tar", "old.tar.gz")))
    assert names(data.train) == ["a.png"]
    assert data.left_out == (("2 tar archives", None, "beside images, which are read"),)


def test_images_beside_parquet_files_are_left_out_and_mentioned(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), put(tmp_path, "a.png") / "b.parquet")
    data = open_data(str(tmp_path))
    assert names(data.train) == ["b.parquet:0"]
    assert data.left_out == (("image files", 1, "beside Parquet files, which are read"),)


def test_a_damaged_parquet_file_beside_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        open_data(str(put(tmp_path, "a.png", "b.parquet")))
