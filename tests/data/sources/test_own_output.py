import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openmae.data.sources import Data, Source, index_cache, open_data, scanning
from openmae.data.sources.own_output import require_replaceable, sign_png, sign_table
from tests.data.sources.test_sources import names, put, put_parquet


def run(folder: Path) -> Path:
    """A run folder, as far as it is recognised, with a picture and the table of its images."""
    put(folder, "recipe.yaml", "environment.json", "samples/1.png")
    pq.write_table(pa.table({"name": ["a.png"]}), folder / "data.parquet")
    return folder


def drawn(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file, pnginfo=sign_png())
    return file


def left_out(data: Data) -> set[tuple[str, str]]:
    return {(left.what, left.why) for left in data.left_out}


def test_a_run_folder_among_the_images_is_left_out_and_said(tmp_path: Path) -> None:
    run(put(tmp_path, "a.png", "b.png") / "runs" / "mine")
    data = open_data(str(tmp_path))
    assert names(data.train) == ["a.png", "b.png"]
    assert left_out(data) == {("runs/mine/", "a run of openmae")}


def test_a_run_that_was_written_into_the_data_folder_itself_leaves_its_images(tmp_path: Path) -> None:
    run(put(tmp_path, "a.png"))
    data = open_data(str(tmp_path))
    assert "a.png" in names(data.train)
    assert ("data.parquet", "Parquet without images") in left_out(data)


def test_a_run_folder_is_no_data(tmp_path: Path) -> None:
    put(tmp_path, "recipe.yaml", "environment.json")
    with pytest.raises(ValueError, match="is a run of openmae, which holds no data; give the folder of the images"):
        open_data(str(tmp_path))


def test_the_contact_sheet_of_a_check_is_left_out_wherever_it_was_written(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.png",
        "check.json",
        "contact_sheet.png",
        "runs/check-x/check.json",
        "runs/check-x/contact_sheet.png",
    )
    data = open_data(str(put(tmp_path, "sheets/contact_sheet.png")))
    assert names(data.train) == ["a.png", "sheets/contact_sheet.png"]
    picture = "a picture that openmae drew"
    assert left_out(data) == {("contact_sheet.png", picture), ("runs/check-x/contact_sheet.png", picture)}


def test_a_picture_that_was_drawn_is_left_out_whatever_it_is_called(tmp_path: Path) -> None:
    drawn(put(tmp_path, "cat/1.png", "dog/1.png") / "cat" / "photo.PNG")
    for spec in (tmp_path, tmp_path / "*" / "*"):
        data = open_data(str(spec))
        assert names(data.train) == ["cat/1.png", "dog/1.png"]
        assert data.left_out == (("cat/photo.PNG", 1, "a picture that openmae drew"),)


@pytest.mark.parametrize("signed", [True, False])
def test_features_that_were_written_beside_the_images_are_left_out(tmp_path: Path, signed: bool) -> None:
    table = pa.table({name: ["x"] for name in ("path", "split", "label", "class", "mean")})
    pq.write_table(sign_table(table, "features") if signed else table, put(tmp_path, "a.png") / "f.parquet")
    data = open_data(str(tmp_path))
    assert (names(data.train), left_out(data)) == (["a.png"], {("f.parquet", "written by openmae")})


def test_features_that_were_written_beside_parquet_are_left_out(tmp_path: Path) -> None:
    put_parquet(tmp_path / "part-0.parquet", [0, 1])
    pq.write_table(sign_table(pa.table({"path": ["x"]}), "features"), tmp_path / "part-1.parquet")
    for spec in (tmp_path, tmp_path / "*.parquet"):
        data = open_data(str(spec))
        assert names(data.train) == ["part-0.parquet:0", "part-0.parquet:1"]
        assert [left.why for left in data.left_out] == ["written by openmae"]


def test_a_table_without_images_beside_image_files_is_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file_name": ["a.png"]}), put(tmp_path, "a.png") / "metadata.parquet")
    data = open_data(str(tmp_path))
    assert (names(data.train), left_out(data)) == (["a.png"], {("metadata.parquet", "Parquet without images")})


@pytest.mark.parametrize("marker", ["packed.json", "packing.json"])
def test_a_packed_copy_within_the_data_is_left_out(
    tmp_path: Path, marker: str, write_shard: Callable[[Path], Path]
) -> None:
    write_shard(tmp_path / "data" / "x.tar")
    write_shard(tmp_path / "data" / "packed" / "train-000000.tar")
    put(tmp_path / "data" / "packed", marker)
    data = open_data(str(tmp_path / "data"))
    assert names(data.train) == ["x.tar/1.png"]
    assert [left.what for left in data.left_out] == ["packed/"]


def test_own_output_in_a_remote_folder_is_left_out() -> None:
    files = fsspec.filesystem("memory")
    for name in ("a.png", "runs/r/recipe.yaml", "runs/r/environment.json", "runs/r/s/1.png", "check.json"):
        files.pipe(f"/own/{name}", b"x")
    files.pipe("/own/contact_sheet.png", b"x")
    data = open_data("memory://own")
    assert names(data.train) == ["a.png"]
    assert {left.what for left in data.left_out} == {"runs/r/", "contact_sheet.png"}


def test_the_cached_list_notices_output_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "MIN_IMAGES", 1)
    put(tmp_path, "a.png", "r/1.png")

    def opened(second: int) -> Source:
        for folder in (tmp_path, tmp_path / "r"):  # a folder that changed just now is not cached
            os.utime(folder, (second, second))
        open_data(str(tmp_path))
        return open_data(str(tmp_path)).train

    assert names(opened(1)) == ["a.png", "r/1.png"]
    put(tmp_path, "r/recipe.yaml", "r/environment.json")
    assert names(opened(2)) == ["a.png"]
    put(tmp_path, "r/2.png")  # a run that goes on does not spoil the list
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_scan", lambda _: pytest.fail("listed again"))
        assert names(open_data(str(tmp_path)).train) == ["a.png"]
    (tmp_path / "r" / "recipe.yaml").unlink()
    assert names(open_data(str(tmp_path)).train) == ["a.png", "r/1.png", "r/2.png"]


def test_only_files_that_this_program_wrote_are_replaced(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"]})
    pq.write_table(sign_table(table, "features"), tmp_path / "ours.parquet")
    pq.write_table(table, tmp_path / "theirs.parquet")
    (tmp_path / "ours.csv").write_text("path,split,label\n")
    (tmp_path / "theirs.csv").write_text("path,label\na.png,cat\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png")
    drawn(tmp_path / "ours.png")
    for ending in ("parquet", "csv", "png"):
        require_replaceable(tmp_path / f"ours.{ending}")
        require_replaceable(tmp_path / f"new.{ending}")
        with pytest.raises(ValueError, match=f"theirs.{ending} is there already, and was not written by openmae"):
            require_replaceable(tmp_path / f"theirs.{ending}")


@pytest.fixture
def write_shard() -> Callable[[Path], Path]:
    from tests.data.sources.test_shards import put_shard

    def write(file: Path) -> Path:
        return put_shard(file, {"1.png": b"x"})

    return write
