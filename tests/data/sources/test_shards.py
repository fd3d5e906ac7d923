import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from openmae.data.sources import Source, index_cache, open_data, shards, storage
from openmae.data.sources.shards import ShardSource
from openmae.data.targets import Kind, Targets

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]


def put_shard(file: Path, members: Mapping[str, bytes | str], *, form: int = tarfile.GNU_FORMAT) -> Path:
    """An uncompressed tar archive of these files, last changed an hour ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=form) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return settle(file)


def settle(file: Path) -> Path:
    before = file.stat().st_mtime - 3600
    os.utime(file, (before, before))
    return file


def names(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def contents(source: Source) -> list[bytes]:
    return [source.read(index) for index in range(len(source))]


def test_shards_read_the_same_in_loader_processes(tmp_path: Path, read_everywhere: ReadEverywhere) -> None:
    put_shard(tmp_path / "a-0.tar", {"1.jpg": "one", "1.cls": "2", "2.jpg": b"\0" * 2000, "2.cls": "0\n"})
    put_shard(tmp_path / "a-1.tar", {"3.cls": "1", "3.png": "three"})
    source = open_data(str(tmp_path)).train
    assert read_everywhere(source) == [
        ("a-0.tar/1.jpg", b"one", 2),
        ("a-0.tar/2.jpg", b"\0" * 2000, 0),
        ("a-1.tar/3.png", b"three", 1),
    ]
    assert source.classes == ("0", "1", "2")
    assert source.labels.dtype == np.int64


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read_long_names_and_unicode_included(tmp_path: Path, form: int) -> None:
    long = "/".join(["folder"] * 20) + "/猫.png"
    file = put_shard(tmp_path / "x.tar", {"ä.png": "short", long: "long", "end.png": "end"}, form=form)
    source = open_data(str(file)).train
    assert names(source) == ["x.tar/ä.png", f"x.tar/{long}", "x.tar/end.png"]
    assert contents(source) == [b"short", b"long", b"end"]


def test_a_sample_is_what_agrees_up_to_the_first_dot_of_the_file_name(tmp_path: Path) -> None:
    members = {"a.b/1.jpg": "b1", "a.b/1.cls": "1", "a.c/1.cls": "0", "a.c/1.left.jpg": "c1"}
    source = open_data(str(put_shard(tmp_path / "x.tar", members))).train
    assert names(source) == ["x.tar/a.b/1.jpg", "x.tar/a.c/1.left.jpg"]
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize("order", [("1.seg.png", "1.jpg", "2.jpg"), ("1.jpg", "1.seg.png", "2.jpg")])
def test_the_image_of_a_sample_is_the_member_with_nothing_but_its_extension(
    said: list[str], tmp_path: Path, order: tuple[str, ...]
) -> None:
    file = put_shard(tmp_path / "x.tar", {name: name for name in order})
    source = open_data(str(file)).train
    assert contents(source) == [b"1.jpg", b"2.jpg"]
    assert len(said) == 1
    assert said[0].startswith("1 images belong to a sample that has one already")
    assert said[0].endswith(f"the first one {file}: 1.seg.png")


def test_the_members_of_a_sample_need_not_be_neighbours(tmp_path: Path) -> None:
    members = {"1.jpg": "1", "2.jpg": "2", "2.cls": "1", "1.cls": "0"}
    source = open_data(str(put_shard(tmp_path / "x.tar", members))).train
    assert source.labels.tolist() == [0, 1]


def test_arrays_and_upper_case_extensions_are_images_and_other_members_are_none(tmp_path: Path) -> None:
    members = {"1.NPY": "1", "2.JPeG": "2", "3.txt": "3", "4.mp4": "4"}
    assert contents(open_data(str(put_shard(tmp_path / "x.tar", members))).train) == [b"1", b"2"]


def test_labels_come_from_json_where_there_is_no_cls(tmp_path: Path) -> None:
    members = {
        "1.jpg": "", "1.json": '{"label": 3}', "2.jpg": "", "2.json": '{"label": 2}', "2.cls": "1",
        "3.jpg": "", "3.cls": "0", "3.json": '{"label": 2}', "4.jpg": "", "4.json": "{}", "5.jpg": "", "6.jpg": "",
        "6.json": '[1]',
    }  # fmt: skip
    source = open_data(str(put_shard(tmp_path / "x.tar", members))).train
    assert (source.labels.tolist(), source.classes) == ([2, 1, 0, -1, -1, -1], ("0", "1", "3"))


@pytest.mark.parametrize(
    "label", ["0.5", "[0, 2]", "[]", "null", '{"a": 1}', "[[1]]", "[0.5]", "[null]", "true", "NaN", "1e999", '"x"', "}"]
)
def test_labels_of_any_kind_are_no_obstacle_to_who_needs_none(tmp_path: Path, label: str) -> None:
    file = put_shard(tmp_path / "x.tar", {"1.jpg": "one", "1.json": f'{{"label": {label}}}', "2.jpg": "", "2.cls": "1"})
    assert contents(open_data(str(file)).train) == [b"one", b""]


def test_json_gives_any_label_that_a_task_can_learn(tmp_path: Path) -> None:
    def read(kind: Kind, **labels: str) -> Targets:
        members: dict[str, str | bytes] = {}
        for name, label in labels.items():
            members |= {f"{name}.jpg": "", f"{name}.json": f'{{"label": {label}}}'}
        return open_data(str(put_shard(tmp_path / "x.tar", members))).train.targets(kind)

    assert read("number", a="0.5", b="2", c="NaN").values[:2].tolist() == [0.5, 2.0]
    assert read("class", a="1.0", b="-1", c="null", d="true").values.tolist() == [1, 0, -1, 1]
    labels = read("labels", a='["rust", "crack"]', b="[]", c='"rust"', d="null")
    assert (labels.names, labels.known.tolist()) == (("crack", "rust"), [True, True, True, False])
    assert labels.values.tolist() == [[True, True], [False, False], [False, True], [False, False]]


def test_the_cached_index_keeps_labels_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "MIN_IMAGES", 1)
    file = put_shard(tmp_path / "x.tar", {"1.jpg": "", "1.json": '{"label": [0, 2]}', "2.jpg": "", "2.cls": "2"})
    for _ in range(2):
        assert open_data(str(file)).train.targets("labels").values.tolist() == [[True, True], [False, True]]


def test_labels_that_are_names_become_classes_in_their_order(tmp_path: Path) -> None:
    put_shard(tmp_path / "train.tar", {"1.jpg": "", "1.cls": "dog", "2.jpg": "", "2.json": '{"label": "cat"}'})
    put_shard(tmp_path / "test.tar", {"1.jpg": "", "1.cls": "dog", "2.jpg": "", "2.cls": "emu"})
    data = open_data(str(tmp_path))
    assert data.train.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0]
    assert data.test is not None
    assert data.test.classes == ("cat", "dog", "emu")
    assert data.test.labels.tolist() == [1, 2]


def test_class_names_come_from_a_member_called_classes_txt(tmp_path: Path) -> None:
    members = {"classes.txt": "cat\ndog\n", "1.jpg": "", "1.cls": "1"}
    assert open_data(str(put_shard(tmp_path / "x.tar", members))).train.classes == ("cat", "dog")


def test_class_names_come_from_a_neighbour_called_classes_txt(tmp_path: Path) -> None:
    file = put_shard(tmp_path / "x.tar", {"1.jpg": "", "1.cls": "1"})
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n\r\n")
    assert open_data(str(file)).train.classes == ("cat", "dog")


def test_class_names_come_from_packed_json(tmp_path: Path) -> None:
    file = put_shard(tmp_path / "x.tar", {"1.jpg": "", "1.cls": "1", "classes.txt": "a\nb"})
    (tmp_path / "packed.json").write_text(json.dumps({"classes": ["cat", "dog"], "statistics": {}}))
    assert open_data(str(file)).train.classes == ("cat", "dog")


def test_shards_named_train_and_val_are_splits(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "val-0"):
        put_shard(tmp_path / "deep" / f"{name}.tar", {"1.jpg": name})
    data = open_data(str(tmp_path))
    assert contents(data.train) == [b"train-0", b"train-1"]
    assert data.test is not None
    assert contents(data.test) == [b"val-0"]


@pytest.mark.parametrize("spec", ["s-{008..010}.tar", "s-0*.tar", "s-{008..010}.ta[r]"])
def test_braces_and_globs_name_several_shards(tmp_path: Path, spec: str) -> None:
    for number in (8, 9, 10):
        put_shard(tmp_path / f"s-{number:03d}.tar", {"1.jpg": str(number)})
    assert contents(open_data(str(tmp_path / spec)).train) == [b"8", b"9", b"10"]


def test_a_file_whose_name_has_braces_is_that_file(tmp_path: Path) -> None:
    assert contents(open_data(str(put_shard(tmp_path / "s-{0..1}.tar", {"1.jpg": "x"}))).train) == [b"x"]


# The cached index


def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose headers are read from now on."""
    seen: list[str] = []
    original = shards._walk

    def noting(number: int, shard: str, *rest: object) -> object:
        seen.append(Path(shard).name)
        return original(number, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shards, "_walk", noting)
    return seen


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards that have been opened once and are large enough for their index to be cached."""
    monkeypatch.setattr(index_cache, "MIN_IMAGES", 2)
    put_shard(tmp_path / "a.tar", {"1.jpg": "one", "1.cls": "1", "classes.txt": "no\nyes"})
    put_shard(tmp_path / "b.tar", {"2.jpg": "two"})
    open_data(str(tmp_path))
    return tmp_path


def test_the_headers_of_large_shards_are_read_once(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = walks(monkeypatch)
    source = open_data(str(remembered)).train
    assert walked == []
    assert contents(source) == [b"one", b"two"]
    assert source.labels.tolist() == [1, -1]
    assert source.classes == ("no", "yes")


def test_the_headers_of_a_changed_shard_are_read_again(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = walks(monkeypatch)
    put_shard(remembered / "b.tar", {"3.jpg": "three"})
    assert contents(open_data(str(remembered)).train) == [b"one", b"three"]
    assert walked == ["a.tar", "b.tar"]


def test_another_shard_is_noticed(remembered: Path) -> None:
    put_shard(remembered / "c.tar", {"3.jpg": "three"})
    assert contents(open_data(str(remembered)).train) == [b"one", b"two", b"three"]


def test_a_shard_that_changed_just_now_is_not_cached(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (remembered / "b.tar").touch()
    open_data(str(remembered))
    walked = walks(monkeypatch)
    open_data(str(remembered))
    assert walked == ["a.tar", "b.tar"]


# Broken and hostile archives


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


END = b"\0" * 1024


def test_links_devices_and_folders_are_no_images(tmp_path: Path) -> None:
    parts = [
        header("passwd.jpg", 0, tarfile.SYMTYPE, "/etc/passwd"),
        header("hard.jpg", 0, tarfile.LNKTYPE, "../../secret"),
        header("fifo.jpg", 0, tarfile.FIFOTYPE),
        header("zero.jpg", 0, tarfile.CHRTYPE),
        header("folder.jpg", 0, tarfile.DIRTYPE),
        header("real.jpg", 4),
        padded(b"real"),
    ]
    (tmp_path / "x.tar").write_bytes(b"".join(parts) + END)
    source = open_data(str(tmp_path / "x.tar")).train
    assert (names(source), contents(source)) == (["x.tar/real.jpg"], [b"real"])


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_text("secret")
    members = {"../secret.jpg": "inside", str(tmp_path / "secret.jpg"): "also inside"}
    before = sorted(tmp_path.rglob("*"))
    source = open_data(str(put_shard(tmp_path / "data" / "x.tar", members))).train
    assert contents(source) == [b"inside", b"also inside"]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "data", tmp_path / "data" / "x.tar"])


def truncated_pixels(whole: bytes) -> bytes:
    return whole[: 512 + 100]


def truncated_header(whole: bytes) -> bytes:
    return whole[: 512 + 1024 + 300]


def damaged_header(whole: bytes) -> bytes:
    return whole[: 512 + 1024] + b"\x07" * 512 + whole[512 + 1024 + 512 :]


def size_beyond_the_end(whole: bytes) -> bytes:
    return header("1.jpg", 1 << 40) + whole[512:]


def negative_size(whole: bytes) -> bytes:
    data = bytearray(whole)
    data[124:136] = b"\xff" * 11 + b"\x00"  # base-256, -256
    data[148:156] = b" " * 8  # the checksum counts its own field as spaces
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def huge_name(whole: bytes) -> bytes:
    return header("././@LongLink", 1 << 62, tarfile.GNUTYPE_LONGNAME) + whole


def damaged_sparse_map(whole: bytes) -> bytes:
    record = b"26 GNU.sparse.map=a,b,c,d\n"
    return header("x", len(record), tarfile.XHDTYPE) + padded(record) + whole


def empty_file(whole: bytes) -> bytes:
    return b""


def no_archive(whole: bytes) -> bytes:
    return b"<html>" * 500


@pytest.mark.parametrize(
    "damage",
    [
        truncated_pixels,
        truncated_header,
        damaged_header,
        size_beyond_the_end,
        negative_size,
        huge_name,
        damaged_sparse_map,
        empty_file,
        no_archive,
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = put_shard(tmp_path / "x.tar", {"1.jpg": b"x" * 1000, "2.jpg": b"y" * 1000})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.tar is not a whole tar archive .*; check that it was copied whole"):
        open_data(str(file))


def test_an_archive_without_its_end_blocks_is_whole(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(header("1.jpg", 3) + padded(b"one"))
    assert contents(open_data(str(tmp_path / "x.tar")).train) == [b"one"]


def test_a_shard_cut_while_in_use_is_an_error_of_the_images_that_it_lost(tmp_path: Path) -> None:
    file = put_shard(tmp_path / "x.tar", {"1.jpg": b"x" * 1000, "2.jpg": b"y" * 1000})
    source = open_data(str(file)).train
    file.write_bytes(file.read_bytes()[:2600])
    assert source.read(0) == b"x" * 1000
    with pytest.raises(OSError, match="552 bytes where 1,000 were asked for"):
        source.read(1)


def test_a_member_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_data(str(put_shard(tmp_path / "x.tar", {"1.jpg": b"x" * 1000}))).train
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 999)
    with pytest.raises(OSError, match="1,000 bytes, more than the 999"):
        source.read(0)


def compressed_by_name(root: Path) -> Path:
    return put_shard(root / "x.tar.gz", {"1.jpg": "x"})


def folder_of_compressed(root: Path) -> Path:
    compressed_by_name(root)
    return root


def compressed_by_content(root: Path) -> Path:
    file = put_shard(root / "x.tar", {"1.jpg": "x"})
    file.write_bytes(gzip.compress(file.read_bytes()))
    return file


def without_images(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.txt": "x"})


def fractional_label(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.jpg": "", "1.json": '{"label": 0.5}'})


def list_of_labels(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.jpg": "", "1.json": '{"label": [0, 2]}'})


def nested_label(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.jpg": "", "1.json": '{"label": {"a": 1}}'})


def list_of_fractions(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.jpg": "", "1.json": '{"label": [0.5, 1]}'})


def broken_json(root: Path) -> Path:
    return put_shard(root / "x.tar", {"1.jpg": "", "1.json": "{"})


def label_without_class(root: Path) -> Path:
    (root / "classes.txt").write_text("cat\ndog\n")
    return put_shard(root / "x.tar", {"1.jpg": "", "1.cls": "2"})


def damaged_packing_notes(root: Path) -> Path:
    (root / "packed.json").write_text("{")
    return put_shard(root / "x.tar", {"1.jpg": ""})


def missing_shard(root: Path) -> Path:
    put_shard(root / "x-0.tar", {"1.jpg": ""})
    return root / "x-{0..1}.tar"


def backward_braces(root: Path) -> Path:
    return root / "x-{5..1}.tar"


def endless_braces(root: Path) -> Path:
    return root / "x-{0..99999999999}.tar"


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (compressed_by_name, "x.tar.gz is compressed", "unpack it, or write plain .tar"),
        (folder_of_compressed, "x.tar.gz is compressed", "unpack it, or write plain .tar"),
        (compressed_by_content, "x.tar is compressed with gzip", "unpack it, or write plain .tar"),
        (without_images, "no member has the name of one", "give shards that hold images"),
        (fractional_label, "gives numbers (such as 0.5), not classes", "--task regression"),
        (list_of_labels, "several labels to an image (such as 0;2), not one class", "--task multilabel"),
        (nested_label, "x.tar: 1.json has the label {'a': 1}", "write a class, a number or a list of labels"),
        (list_of_fractions, "x.tar: 1.json has the label [0.5, 1]", "or leave it out of the shard"),
        (broken_json, "x.tar: 1.json is not JSON", "or leave it out of the shard"),
        (label_without_class, "label 2 but names only 2 classes", "repair its labels"),
        (damaged_packing_notes, "packed.json is damaged", "pack the data again"),
        (missing_shard, "x-1.tar", "check that all of them are there"),
        (backward_braces, "{5..1}", "write {000..012}"),
        (endless_braces, "{0..99999999999}", "write {000..012}"),
    ],
)
def test_shards_that_cannot_be_used_say_what_was_found_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], Path], found: str, remedy: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        _ = open_data(str(make(tmp_path))).train.labels
    assert found in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_source_opens_without_a_reporter(tmp_path: Path) -> None:
    assert len(ShardSource([str(put_shard(tmp_path / "x.tar", {"1.jpg": "x"}))])) == 1
