import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.sources import index_cache, open_data, scanning


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images in two class folders: no recent change, and enough images for their list to be cached."""
    monkeypatch.setattr(index_cache, "MIN_IMAGES", 5)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/old/2.png", "dog/old/3.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_text(name)
    return settle(tmp_path / "photos")


def settle(root: Path) -> Path:
    """Make the last change of every folder lie an hour back."""
    for folder in (root, *root.rglob("*/")):
        before = folder.stat().st_mtime - 3600
        os.utime(folder, (before, before))
    return root


def names(root: Path) -> list[str]:
    source = open_data(str(root)).train
    return [source.name(index) for index in range(len(source))]


def scans(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The folders that are listed from now on."""
    seen: list[bytes] = []
    original = scanning._entries

    def noting(folder: bytes, *rest: object) -> object:
        seen.append(folder)
        return original(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "_entries", noting)
    return seen


def index_files(cache_folder: Path) -> list[Path]:
    return sorted((cache_folder / "openmae" / "index").glob("*"))


def test_a_folder_is_listed_anew_when_another_kind_of_container_is_known(
    photos: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "more.zip").touch()
    settle(photos)
    assert scanning.list_folder(str(photos)).containers == ()
    monkeypatch.setattr(scanning, "CONTAINERS", (*scanning.CONTAINERS, b".zip"))
    assert scanning.list_folder(str(photos)).containers == (b"more.zip",)


def test_the_list_of_a_large_folder_is_cached(
    photos: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_data(str(photos)).train
    looked_into = scans(monkeypatch)
    again = open_data(str(photos)).train
    assert looked_into == []
    assert len(index_files(cache_folder)) == 1
    assert again.classes == first.classes == ("cat", "dog")
    assert again.labels.tolist() == [0, 0, 1, 1, 1]
    assert [again.read(index) for index in range(5)] == [first.read(index) for index in range(5)]


def add(root: Path) -> None:
    (root / "dog/old/4.png").touch()


def remove(root: Path) -> None:
    (root / "dog/old/3.png").unlink()


def rename(root: Path) -> None:
    (root / "cat/2.png").rename(root / "cat/9.png")


def replace_folder(root: Path) -> None:
    (root / "dog/old").rename(root.parent / "away")
    (root / "dog/old").mkdir()
    (root / "dog/old/new.png").touch()
    settle(root)


def remove_folder(root: Path) -> None:
    (root / "cat/1.png").unlink()
    (root / "cat/2.png").unlink()
    (root / "cat").rmdir()


@pytest.mark.parametrize("change", [add, remove, rename, replace_folder, remove_folder])
def test_any_change_of_the_files_is_noticed(photos: Path, change: Callable[[Path], None]) -> None:
    names(photos)
    change(photos)
    assert names(photos) == sorted(str(file.relative_to(photos)) for file in photos.rglob("*.png"))


def test_a_folder_in_the_place_of_another_is_noticed_though_its_time_stamp_agrees(photos: Path) -> None:
    names(photos)
    stamps = {folder: folder.stat().st_mtime_ns for folder in (photos / "dog", photos / "dog/old")}
    (photos / "dog/old").rename(photos.parent / "away")
    (photos / "dog/old").mkdir()
    (photos / "dog/old/new.png").touch()
    for folder, stamp in stamps.items():
        os.utime(folder, ns=(stamp, stamp))
    assert names(photos) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/old/new.png"]


def test_a_folder_that_has_gone_is_noticed_though_the_time_stamp_above_it_agrees(photos: Path) -> None:
    names(photos)
    stamp = (photos / "dog").stat().st_mtime_ns
    (photos / "dog/old").rename(photos.parent / "away")
    os.utime(photos / "dog", ns=(stamp, stamp))
    assert names(photos) == ["cat/1.png", "cat/2.png", "dog/1.png"]


def test_a_folder_that_changed_just_now_is_not_cached(photos: Path, cache_folder: Path) -> None:
    now = time.time()
    os.utime(photos / "dog" / "old", (now, now))
    names(photos)
    assert index_files(cache_folder) == []


def test_a_small_folder_is_not_cached(photos: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "MIN_IMAGES", 100)
    names(photos)
    assert index_files(cache_folder) == []


def test_a_damaged_index_is_replaced_and_mentioned(said: list[str], photos: Path, cache_folder: Path) -> None:
    expected = names(photos)
    (index,) = index_files(cache_folder)
    index.write_bytes(index.read_bytes()[:-30])
    assert names(photos) == expected
    assert len(said) == 1
    assert "cannot be read" in said[0]
    said.clear()
    assert names(photos) == expected
    assert said == []


def test_the_index_of_another_folder_is_not_used(said: list[str], photos: Path, cache_folder: Path) -> None:
    expected = names(photos)
    (index,) = index_files(cache_folder)
    table = pq.read_table(index)
    pq.write_table(table.replace_schema_metadata({b"openmae.index": b"folder /elsewhere"}), index)
    assert names(photos) == expected
    assert len(said) == 1
    assert "is no index of these data" in said[0]


def test_an_index_of_other_columns_is_not_used(said: list[str], photos: Path, cache_folder: Path) -> None:
    expected = names(photos)
    (index,) = index_files(cache_folder)
    metadata = pq.read_schema(index).metadata
    pq.write_table(pa.table({"path": ["x.png"]}).replace_schema_metadata(metadata), index)
    assert names(photos) == expected
    assert "is no index of these data" in said[0]


def test_a_cache_folder_that_cannot_be_written_is_no_error(
    said: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos / "cat" / "1.png"))
    assert len(names(photos)) == 5
    assert said == []


def test_nothing_unfinished_stays_in_the_cache_folder(
    photos: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    assert len(names(photos)) == 5
    assert index_files(cache_folder) == []


def test_a_long_listing_logs_its_progress(said: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PROGRESS_SECONDS", 0.0)
    names(photos)
    assert said == [f"found {count} images …" for count in range(1, 6)]


def test_many_files_are_collected_in_chunks_without_losing_any(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = names(photos)
    monkeypatch.setattr(scanning, "FILES_PER_CHUNK", 2)
    settle(photos)
    assert names(photos) == expected
