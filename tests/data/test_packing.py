import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from openmae.data import packing, statistics
from openmae.data.decoding import PixelFormat, decode, open_image
from openmae.data.packing import pack
from openmae.data.packing.reencoding import PackFormat, PackSettings
from openmae.data.packing.shard_writing import member_name
from openmae.data.sources import ShardSource, Source, open_data
from openmae.data.sources.packed_notes import PACKED_FILE
from openmae.recipes import PretrainRecipe
from openmae.training.pixels import resolve_pixels
from openmae.training.pretraining import run_pretraining
from tests.data.decoding.crafting import tiff

RGB = PixelFormat()


def picture(seed: int, height: int = 90, width: int = 120, channels: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture, which JPEG keeps well."""
    coarse = np.random.default_rng(seed).integers(0, 255, (3, 4, channels), dtype=np.uint8)
    rows = [Image.fromarray(coarse[:, :, c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(row) for row in rows], axis=2)


def save(file: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return file


def packed(source: Path, destination: Path, **options: Any) -> Any:
    """The result of packing, and the packed data."""
    names = {"format", "short_side", "quality"}
    settings = PackSettings(**{name: value for name, value in options.items() if name in names})
    rest = {name: value for name, value in options.items() if name not in names}
    result = pack(open_data(str(source)), str(destination), settings, source=str(source), **rest)
    return result, open_data(str(destination))


def names(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes in two splits, one image of two called alike."""
    root = tmp_path / "pictures"
    for number, name in enumerate(("train/cat/a.png", "train/cat/b.v2.png", "train/dog/a.jpg", "train/dog/a.png")):
        save(root / name, picture(number))
    save(root / "test/dog/é ü.png", picture(9))
    return root


def test_a_packed_set_has_the_splits_labels_classes_and_names_of_its_source(classes: Path, tmp_path: Path) -> None:
    result, data = packed(classes, tmp_path / "packed")
    assert names(data.train) == [f"train-000000.tar/{name}.jpg" for name in ("cat/a", "cat/b_v2", "dog/a", "dog/a-2")]
    assert names(data.test) == ["test-000000.tar/dog/é ü.jpg"]
    assert data.train.classes == data.test.classes == ("cat", "dog")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1, 1], [1])
    assert (result["images"], result["bad"], result["out"]) == (5, 0, str(tmp_path / "packed"))
    assert result["bytes_before"] == sum(file.stat().st_size for file in classes.rglob("*.*g"))
    assert result["bytes_after"] == sum(file.stat().st_size for file in (tmp_path / "packed").glob("*.tar"))


def test_every_split_is_packed_and_is_the_same_split_again(said: list[str], tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number, name in enumerate(("cat", "dog")):
            save(tmp_path / f"pictures/{split}/{name}/{split}.png", picture(number))
    save(tmp_path / "pictures/more of it (train)/1.png", picture(5))
    result, data = packed(tmp_path / "pictures", tmp_path / "packed")
    assert {split: len(source) for split, source in data.splits.items()} == {
        "train": 2, "val": 2, "test": 2, "more of it (train)": 1
    }  # fmt: skip
    assert (tmp_path / "packed/more of it _train_-000000.tar").is_file()
    assert [data.splits[split].labels.tolist() for split in ("val", "test")] == [[0, 1], [0, 1]]
    assert names(data.splits["val"]) == ["val-000000.tar/cat/val.jpg", "val-000000.tar/dog/val.jpg"]
    line = "train: 2 images of 2 classes cat and dog; val: 2; test: 2; more of it (train): 1 without a label"
    assert line in said
    assert result["data"]["splits"]["more of it (train)"] == {"images": 1, "classes": 0, "unlabelled": 1}


def test_splits_that_number_their_classes_in_another_order_are_packed_by_name(tmp_path: Path) -> None:
    rows = [{"bytes": (save(tmp_path / "x.png", picture(1))).read_bytes(), "path": None}] * 2
    for split, classes in (("train", ["cat", "dog"]), ("val", ["emu", "dog"]), ("test", ["fox", "cat"])):
        table = pa.table({"image": rows, "label": [0, 1]})
        features = {"label": {"names": classes, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"{split}.parquet")
    _, data = packed(tmp_path / "data", tmp_path / "packed")
    assert [[source.classes[label] for label in source.labels] for source in data.splits.values()] == [
        ["cat", "dog"],
        ["emu", "dog"],
        ["fox", "cat"],
    ]


def test_labels_of_a_file_and_images_without_one_are_kept(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "flat" / f"{number}.png", picture(number))
    (tmp_path / "labels.csv").write_text("path,label\n0.png,owl\n2.png,elk\n")
    data = open_data(str(tmp_path / "flat"), labels=str(tmp_path / "labels.csv"))
    pack(data, str(tmp_path / "packed"), PackSettings(), source="flat")
    train = open_data(str(tmp_path / "packed")).train
    assert (train.labels.tolist(), train.classes) == (data.train.labels.tolist(), data.train.classes)
    assert -1 in train.labels
    with tarfile.open(tmp_path / "packed/train-000000.tar") as archive:
        assert [name for name in archive.getnames() if name.endswith(".cls")] == ["0.cls", "2.cls"]


def test_parquet_and_an_unlabelled_set_can_be_packed(tmp_path: Path) -> None:
    images = [{"bytes": save(tmp_path / "x.png", picture(seed, 28, 28)).read_bytes(), "path": None} for seed in (1, 2)]
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    _, data = packed(tmp_path / "x.parquet", tmp_path / "packed")
    assert names(data.train) == ["train-000000.tar/x_parquet_0.npy", "train-000000.tar/x_parquet_1.npy"]
    assert (data.train.labels.tolist(), data.train.classes) == ([-1, -1], ())
    assert np.array_equal(decode(data.train.read(1), RGB), picture(2, 28, 28))


def test_raw_pixels_equal_those_of_pillow(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (90, 121, 3), dtype=np.uint8)
    save(tmp_path / "in/a.png", pixels)
    _, data = packed(tmp_path / "in", tmp_path / "packed", format="raw", short_side=50)
    expected = Image.fromarray(pixels).resize((67, 50), Image.Resampling.BICUBIC)
    assert np.array_equal(decode(data.train.read(0), RGB), np.asarray(expected))


@pytest.mark.parametrize(
    ("format_", "height", "width", "extension"),
    [
        ("auto", 64, 64, "npy"),
        ("auto", 40, 65, "jpg"),
        ("jpeg", 20, 20, "jpg"),
        ("raw", 200, 300, "npy"),
        ("jpeg", 1, 70000, "npy"),
    ],
)
def test_the_format_follows_the_flag_and_the_size(
    tmp_path: Path, format_: PackFormat, height: int, width: int, extension: str
) -> None:
    save(tmp_path / "in/a.png", picture(1, height, width))
    _, data = packed(tmp_path / "in", tmp_path / "packed", format=format_)
    assert names(data.train) == [f"train-000000.tar/a.{extension}"]
    opened = open_image(data.train.read(0))
    assert (opened.height, opened.width) == (height, width)
    error = opened.decode(RGB).astype(float) - picture(1, height, width)
    assert np.sqrt((error**2).mean()) < 8


def test_quality_sets_the_quality_of_the_jpeg(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    sizes = [packed(tmp_path / "in", tmp_path / str(q), quality=q)[0]["bytes_after"] for q in (30, 90)]
    assert sizes[0] < sizes[1]


def test_a_jpeg_that_is_small_and_upright_is_copied_byte_for_byte(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    copied = save(tmp_path / "in/a.jpg", picture(1), quality=50).read_bytes()
    turned = save(tmp_path / "in/b.jpg", picture(1), quality=50, exif=exif).read_bytes()
    large = save(tmp_path / "in/c.jpg", picture(1, 300, 400), quality=50).read_bytes()
    _, data = packed(tmp_path / "in", tmp_path / "packed")
    assert data.train.read(0) == copied
    assert data.train.read(1) != turned
    upright = open_image(data.train.read(1))
    assert (upright.height, upright.width, upright.orientation) == (120, 90, 1)
    assert np.abs(upright.decode(RGB).astype(int) - decode(turned, RGB)).max() < 12
    assert data.train.read(2) != large
    assert (open_image(data.train.read(2)).height, open_image(data.train.read(2)).width) == (288, 384)


def test_grey_stays_grey(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", picture(1)[:, :, 0])
    _, data = packed(tmp_path / "in", tmp_path / "packed")
    assert open_image(data.train.read(0)).description == "JPEG L"
    assert json.loads((tmp_path / "packed/packed.json").read_text())["channels"] == 1


@pytest.mark.parametrize("format_", ["auto", "jpeg"])
def test_16_bits_in_13_bands_survive(tmp_path: Path, format_: PackFormat) -> None:
    bands = np.random.default_rng(1).integers(0, 65535, (80, 70, 13), dtype=np.uint16)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/a.tif", bands, photometric="minisblack", planarconfig="contig")
    _, data = packed(tmp_path / "in", tmp_path / "packed", format=format_)
    assert np.array_equal(decode(data.train.read(0), PixelFormat(13, "uint16")), bands)
    notes = json.loads((tmp_path / "packed/packed.json").read_text())
    assert (notes["channels"], notes["pixel_type"], len(notes["statistics"]["mean"])) == (13, "uint16", 13)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_kept_and_can_still_be_dropped(tmp_path: Path, channels: int) -> None:
    pixels = picture(1, channels=channels)
    save(tmp_path / "in/a.png", pixels)
    _, data = packed(tmp_path / "in", tmp_path / "packed", format="raw")
    assert np.array_equal(decode(data.train.read(0), PixelFormat(channels)), pixels)
    assert decode(data.train.read(0), RGB).shape == (90, 120, 3)


def test_labels_that_are_no_classes_are_left_out_with_a_message(said: list[str], classes: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\ntrain/cat/a.png,12.5\ntest/dog/é ü.png,7\n", encoding="utf-8")
    numbers = open_data(str(classes), labels=str(tmp_path / "labels.csv"))
    pack(numbers, str(tmp_path / "packed"), PackSettings(), source=str(classes))
    data = open_data(str(tmp_path / "packed"))
    assert data.train.labels.tolist() == [-1] * 4
    assert any("the labels are left out: " in message and "--task regression" in message for message in said)


def test_broken_images_are_left_out_counted_and_listed(classes: Path, tmp_path: Path) -> None:
    whole = (classes / "train/dog/a.jpg").read_bytes()
    (classes / "train/cat/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (classes / "test/dog/none.png").write_text("<html>")
    result, data = packed(classes, tmp_path / "packed")
    assert (result["images"], result["bad"]) == (5, 2)
    assert not any("cut" in name for name in names(data.train))
    bad = [json.loads(line) for line in (tmp_path / "packed/bad_images.jsonl").read_text().splitlines()]
    assert [(record["split"], record["name"]) for record in bad] == [("train", "cat/cut.jpg"), ("test", "dog/none.png")]
    assert all(record["reason"] for record in bad)


def test_a_split_without_a_whole_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_text("<html>")
    with pytest.raises(ValueError, match=r"no image of the train split can be decoded \(not an image\)"):
        packed(tmp_path / "in", tmp_path / "packed")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_shards_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "in" / f"{number % 2}" / f"{number}.png", picture(number))
    for workers in (0, 2):
        packed(tmp_path / "in", tmp_path / f"with{workers}", workers=workers)
    assert contents(tmp_path / "with0") == contents(tmp_path / "with2")
    with tarfile.open(tmp_path / "with0/train-000000.tar") as archive:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in archive} == {(0, 0, 0, "")}


def test_a_full_shard_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        save(tmp_path / "in" / f"{number % 2}" / f"{number:02d}.png", picture(number))
    monkeypatch.setattr(packing, "MEGABYTE", 20_000)
    _, data = packed(tmp_path / "in", tmp_path / "packed", format="jpeg", shard_megabytes=1)
    shards = sorted((tmp_path / "packed").glob("*.tar"))
    assert len(shards) > 2
    assert all(shard.stat().st_size <= 20_480 for shard in shards)
    assert len(data.train) == 12
    assert sorted(data.train.labels.tolist()) == [0] * 6 + [1] * 6
    with tarfile.open(shards[1]) as archive:
        assert [Path(name).suffix for name in archive.getnames()] == [".jpg", ".cls"] * (len(archive.getnames()) // 2)


def test_a_stopped_pack_leaves_no_shard_that_looks_complete_and_starts_anew(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(classes, tmp_path / "whole")

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(classes, tmp_path / "packed", show=stop)
    assert sorted(contents(tmp_path / "packed")) == ["packing.json"]
    packed(classes, tmp_path / "packed")
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_shards_of_a_stopped_pack_are_refused_as_data(classes: Path, tmp_path: Path) -> None:
    packed(classes, tmp_path / "packed")
    (tmp_path / "packed/packed.json").rename(tmp_path / "packed/packing.json")
    with pytest.raises(ValueError, match="was not packed to its end; run the same `openmae pack` again"):
        open_data(str(tmp_path / "packed"))


def user_file(folder: Path) -> None:
    (folder / "thesis.doc").write_text("mine")


def user_shards(folder: Path) -> None:
    (folder / "train-000000.tar").write_text("mine")


def user_file_beside_a_stopped_pack(folder: Path) -> None:
    (folder / "packing.json").write_text("{}")
    (folder / "thesis.tar").write_text("mine")


def packed_set(folder: Path) -> None:
    (folder / "packed.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (user_file, r"holds other files \(thesis.doc\)"),
        (user_shards, r"holds other files \(train-000000.tar\)"),
        (user_file_beside_a_stopped_pack, r"holds other files \(thesis.tar\)"),
        (packed_set, "holds a packed set already"),
    ],
)
def test_a_folder_with_other_files_is_refused_and_left_alone(
    classes: Path, tmp_path: Path, make: Callable[[Path], None], found: str
) -> None:
    (tmp_path / "packed").mkdir()
    make(tmp_path / "packed")
    before = contents(tmp_path / "packed")
    with pytest.raises(ValueError, match=f"{found}.*; give a new folder"):
        packed(classes, tmp_path / "packed")
    assert contents(tmp_path / "packed") == before


def test_urls_and_files_are_no_destination(classes: Path, tmp_path: Path) -> None:
    data = open_data(str(classes))
    with pytest.raises(ValueError, match="is a URL; pack to a local folder"):
        pack(data, "s3://bucket/x", PackSettings(), source="x")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write to .*; give a folder that you may write"):
        pack(data, str(tmp_path / "file"), PackSettings(), source="x")


def test_too_little_space_is_an_error_before_anything_is_written(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9000))
    with pytest.raises(ValueError, match=r"GB would be written to .* GB are free; choose another disk"):
        packed(classes, tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": 0}, "--short-side is 0"),
        ({"quality": 0}, "--quality is 0"),
        ({"quality": 101}, "--quality is 101"),
        ({"format": "gif"}, "--format is 'gif'; choose one of auto, jpeg, raw"),
        ({"shard_megabytes": 0}, "--shard-size is 0 MB"),
    ],
)
def test_settings_out_of_range_are_named(classes: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed(classes, tmp_path / "packed", **options)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../../etc/passwd.png", "etc/passwd"),
        ("/root/x.jpg", "root/x"),
        ("C:\\x\n.jpg", "C__x_"),
        ("train-000000.tar/cat/1.jpg", "train-000000_tar/cat/1"),
        ("hf://me/set/train:7", "hf_/me/set/train_7"),
        ("日本/猫.png", "日本/猫"),
        ("..", "image"),
    ],
)
def test_member_names_are_safe(name: str, key: str) -> None:
    assert member_name(name) == key


def test_a_packed_set_can_be_packed_again(classes: Path, tmp_path: Path) -> None:
    _, first = packed(classes, tmp_path / "one")
    _, second = packed(tmp_path / "one", tmp_path / "two")
    assert [second.train.read(index) for index in range(4)] == [first.train.read(index) for index in range(4)]
    assert second.train.labels.tolist() == first.train.labels.tolist()
    assert second.train.classes == first.train.classes


def unmeasurable(*_: object) -> statistics.Statistics:
    raise AssertionError("measured again")


def test_the_statistics_of_a_packed_set_are_not_measured_again(
    said: list[str], classes: Path, tmp_path: Path, tiny_recipe: PretrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = packed(classes, tmp_path / "packed")
    recipe = replace(tiny_recipe, channels=3, normalize="from-data", mean=(0.0,) * 3, std=(1.0,) * 3)
    assert isinstance(data.train, ShardSource)
    measured = statistics.measure(data.train, RGB)
    monkeypatch.setattr("openmae.training.pixels.measure", unmeasurable)
    settled = resolve_pixels(recipe, data.train)
    assert (settled.mean, settled.std) == measured
    assert not any("measuring" in line for line in said)
    with pytest.raises(AssertionError, match="measured again"):  # those noted are of colour
        resolve_pixels(replace(recipe, channels=1, mean=(0.0,), std=(1.0,)), data.train)


@pytest.mark.parametrize("format_", ["jpeg", "raw"])
def test_pretraining_runs_on_a_packed_set(
    tiny_recipe: PretrainRecipe, small_fashion: Path, tmp_path: Path, format_: PackFormat
) -> None:
    packed(small_fashion, tmp_path / "packed", format=format_)
    recipe = replace(tiny_recipe, data=str(tmp_path / "packed"), epochs=1)
    result = run_pretraining(recipe, tmp_path / "run")
    assert result["loss"] > 0


def test_pretraining_runs_on_packed_16_bit_bands(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(8):
        bands = np.random.default_rng(number).integers(0, 65535, (32, 32, 13), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "in" / f"{number}.tif", bands, photometric="minisblack", planarconfig="contig")
    packed(tmp_path / "in", tmp_path / "packed")
    recipe = replace(
        tiny_recipe, data=str(tmp_path / "packed"), channels=13, batch_size=8, epochs=1, normalize="from-data"
    )
    run_pretraining(recipe, tmp_path / "run")
    said = (tmp_path / "run/log.txt").read_text()
    assert "13 channels of uint16" in said
    assert "measuring" not in said


def test_the_speeds_before_and_after_are_measured(classes: Path, tmp_path: Path) -> None:
    result, _ = packed(classes, tmp_path / "packed")
    rates = result["images_per_second"]
    assert result["speedup"] == pytest.approx(rates["packed"] / rates["source"], rel=0.02)


def test_an_array_is_stored_without_pickle() -> None:
    from openmae.data.packing.reencoding import reencode

    buffer = io.BytesIO()
    np.save(buffer, np.ones((40, 50, 2), np.float32))
    again = reencode(buffer.getvalue(), PackSettings())
    assert np.load(io.BytesIO(again.data), allow_pickle=False).shape == (40, 50, 2)


def test_all_channels_of_pages_and_all_pixels_without_data_are_packed(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    planes = np.random.default_rng(0).integers(0, 9000, (5, 40, 40)).astype(np.uint16)
    (images / "cell.ome.tif").write_bytes(tiff(planes, ome=True, metadata={"axes": "CYX"}, photometric="minisblack"))
    packed(images, tmp_path / "packed")
    source = open_data(str(tmp_path / "packed")).train
    assert np.array_equal(decode(source.read(0), PixelFormat(5, "uint16")), np.moveaxis(planes, 0, -1))


def test_a_value_without_meaning_is_packed_as_nan(said: list[str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    heights = np.random.default_rng(0).normal(0.2, 0.05, (60, 60, 2)).astype(np.float32)
    heights[:, :20] = -9999
    np.save(images / "a.npy", heights)
    packed(images, tmp_path / "packed", short_side=30)
    assert any("exactly -9999" in line for line in said)
    source = open_data(str(tmp_path / "packed")).train
    pixels = decode(source.read(0), PixelFormat(2, "float32"))
    assert np.isnan(pixels[:, :10]).all()
    assert np.abs(pixels[:, 11:] - 0.2).max() < 0.3
    notes = json.loads((tmp_path / "packed" / PACKED_FILE).read_text())
    assert notes["nodata"] == -9999
    assert notes["statistics"]["mean"] == pytest.approx([0.2, 0.2], abs=0.01)
