import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from openmae.data.sources import open_data


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a label file of these lines."""

    def to_file(*lines: str, name: str = "labels.csv", encoding: str = "utf-8", end: str = "\n") -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes("".join(line + end for line in lines).encode(encoding))
        return str(tmp_path / name)

    return to_file


Write = Callable[..., str]


def test_a_label_file_labels_a_flat_folder(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png", "d.png")
    source = open_data(str(root), labels=write("path,label", "c.png,dog", "a.png,cat", "b.png,dog")).train
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 1, 1, -1]


def test_labels_that_are_numbers_are_the_names_of_classes_in_the_order_of_numbers(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png")
    source = open_data(str(root), labels=write("path,label", "a.png,20", "b.png, 3", "c.png,")).train
    assert source.classes == ("3", "20")
    assert source.labels.tolist() == [1, 0, -1]


def test_a_label_file_goes_before_class_folders(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "cat/1.png", "dog/1.png", "dog/2.png")
    source = open_data(str(root), labels=write("path,label", "cat/1.png,wild", "dog/1.png,tame")).train
    assert source.classes == ("tame", "wild")
    assert source.labels.tolist() == [1, 0, -1]


def test_a_header_may_be_missing(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    assert open_data(str(root), labels=write("a.png,1", "b.png,0")).train.labels.tolist() == [1, 0]


@pytest.mark.parametrize("header", ["id,label,path", "id,Class, File_Name"])
def test_a_header_names_the_columns_in_any_order(tmp_path: Path, write: Write, header: str) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    assert open_data(str(root), labels=write(header, "x,1,a.png", "y,0,b.png")).train.labels.tolist() == [1, 0]


def test_quoted_names_byte_order_marks_blank_lines_and_windows_line_ends_are_understood(
    tmp_path: Path, write: Write
) -> None:
    root = put(tmp_path / "photos", "a, b.png", "猫.png")
    file = write("path,label", '"a, b.png",x', "", "猫.png,y", encoding="utf-8-sig", end="\r\n")
    assert open_data(str(root), labels=file).train.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "path",
    ["sub/a.png", "./sub/a.png", "sub//a.png", "{root}/sub/a.png", "photos/sub/a.png", "./photos/sub/../sub/a.png"],
)
def test_paths_start_at_the_data_folder_or_the_label_file_or_are_absolute(
    tmp_path: Path, write: Write, path: str
) -> None:
    root = put(tmp_path / "photos", "sub/a.png", "sub/b.png")
    file = write("path,label", f"{path.format(root=root)},yes")
    assert open_data(str(root), labels=file).train.labels.tolist() == [0, -1]


def test_a_label_file_may_lie_in_a_neighbouring_folder(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    file = write("path,label", "../photos/b.png,yes", name="notes/labels.csv")
    assert open_data(str(root), labels=file).train.labels.tolist() == [-1, 0]


def test_both_paths_may_be_relative_to_the_working_folder(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "photos", "a.png", "b.png")
    write("path,label", "photos/b.png,yes")
    monkeypatch.chdir(tmp_path)
    assert open_data("photos", labels="labels.csv").train.labels.tolist() == [-1, 0]


def test_both_splits_are_labelled_with_the_same_classes(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "train/1.png", "train/2.png", "test/1.png")
    file = write("path,label", "train/1.png,dog", "train/2.png,emu", "photos/test/1.png,cat")
    data = open_data(str(root), labels=file)
    assert data.test is not None
    assert data.train.classes == data.test.classes == ("cat", "dog", "emu")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 2], [0])


def test_images_in_tar_shards_are_labelled_by_their_names(tmp_path: Path, write: Write) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("1.png"))
        archive.addfile(tarfile.TarInfo("2.png"))
    source = open_data(str(tmp_path / "x.tar"), labels=write("path,label", "x.tar/2.png,cat")).train
    assert (source.labels.tolist(), source.classes) == ([-1, 0], ("cat",))


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_names_that_are_not_utf8_are_found_by_their_bytes_or_as_they_are_shown(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", os.fsdecode(b"1\xff.png"), os.fsdecode(b"2\xff.png"))
    (tmp_path / "labels.csv").write_bytes(b"path,label\n1\xff.png,a\n2\\xff.png,b\n")
    assert open_data(str(root), labels=str(tmp_path / "labels.csv")).train.labels.tolist() == [0, 1]


def test_a_line_may_be_repeated(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png")
    assert open_data(str(root), labels=write("a.png,1", "./a.png,1")).train.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("lines", "found", "remedy"),
    [
        (["path,label", "a.png,1", "x.png,1", "y.png,0"], "2 of 3 lines that name no image, the first one 'x.png'", ""),
        (
            ["name,kind", "a.png,1"],
            "1 of 2 lines that name no image, the first one 'name'",
            "write paths from the data",
        ),
        (["a.png,1", "a.png,0"], "gives a.png two different labels", "leave one line for each image"),
        (["path,label", "a.png,1,2"], "the line 'a.png,1,2' with 3 columns where 2 are expected", "write path,label"),
        (["a.png;1"], "the line 'a.png;1' with 1 columns where 2 are expected", "write path,label"),
        (["path,label"], "holds no labels", "give --labels a CSV file"),
        ([], "holds no labels", "give --labels a CSV file"),
    ],
)
def test_a_label_file_that_cannot_be_used_says_what_was_found_and_what_to_do(
    tmp_path: Path, write: Write, lines: list[str], found: str, remedy: str
) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    with pytest.raises(ValueError, match=r"labels\.csv") as caught:
        _ = open_data(str(root), labels=write(*lines)).train.labels
    assert found in str(caught.value)
    assert remedy in str(caught.value)


def test_a_label_file_that_is_missing_or_a_folder_is_an_error(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", "a.png")
    for file in (tmp_path / "nowhere.csv", root):
        with pytest.raises(ValueError, match=r"cannot be read .*; give --labels a CSV file"):
            open_data(str(root), labels=str(file))


def test_several_labels_stand_between_semicolons(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", *(f"{letter}.png" for letter in "abcde"))
    file = write("path,label", "a.png,crack;rust", "b.png,rust", "c.png,-", "d.png,", "e.png, rust ; crack ")
    targets = open_data(str(root), labels=file).train.targets("labels")
    assert targets.names == ("crack", "rust")
    assert targets.values.tolist() == [[True, True], [False, True], [False, False], [False, False], [True, True]]
    assert targets.known.tolist() == [True, True, True, False, True], "an empty cell is no answer, - is none of them"


def test_several_label_numbers_are_names_of_labels(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    targets = open_data(str(root), labels=write("path,label", "a.png,3;1", "b.png,-")).train.targets("labels")
    assert targets.names == ("1", "3")
    assert targets.values.tolist() == [[True, True], [False, False]]


def test_labels_may_be_columns(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png")
    file = write("path,rust,crack", "b.png,0,0", "a.png,1,0", "c.png,,")
    targets = open_data(str(root), labels=file).train.targets("labels")
    assert targets.names == ("rust", "crack"), "in the order of the columns"
    assert targets.values.tolist() == [[True, False], [False, False], [False, False]]
    assert targets.known.tolist() == [True, True, False]


def test_columns_of_which_one_has_1_are_classes(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png")
    source = open_data(str(root), labels=write("path,rust,crack", "a.png,0.0,1.0", "b.png,1,0", "c.png,0,1")).train
    assert (source.classes, source.labels.tolist()) == (("rust", "crack"), [1, 0, 1])


@pytest.mark.parametrize("cells", [("1", "nan", "0"), ("1.5", "NaN", "0"), ("yes", "nan", "no")])
def test_a_missing_number_is_no_class_called_nan(tmp_path: Path, write: Write, cells: tuple[str, ...]) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png")
    file = write("path,label", *(f"{name}.png,{cell}" for name, cell in zip("abc", cells, strict=True)))
    targets = open_data(str(root), labels=file).train.targets("number" if cells[0] == "1.5" else "class")
    assert targets.known.tolist() == [True, False, True]


def test_both_splits_have_the_labels_of_the_whole_file(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "train/1.png", "test/1.png")
    data = open_data(str(root), labels=write("path,label", "train/1.png,crack", "test/1.png,rust;dent"))
    assert data.test is not None
    assert data.train.targets("labels").names == data.test.targets("labels").names == ("crack", "dent", "rust")
    assert data.test.targets("labels").values.tolist() == [[False, True, True]]


def test_numbers_with_fractions_are_numbers_and_no_classes(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png", "c.png")
    source = open_data(str(root), labels=write("path,label", "a.png,12.5", "b.png,-3", "c.png,")).train
    numbers = source.targets("number")
    assert (numbers.values[:2].tolist(), numbers.known.tolist()) == ([12.5, -3], [True, True, False])
    with pytest.raises(ValueError, match=r"labels\.csv gives numbers \(such as 12\.5\).*--task regression"):
        source.targets("class")


def test_whole_numbers_are_classes_or_numbers_as_the_task_wants(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    source = open_data(str(root), labels=write("path,label", "a.png,2", "b.png,0")).train
    assert source.targets("number").values.tolist() == [2, 0]
    assert (source.classes, source.labels.tolist()) == (("0", "2"), [1, 0])


def test_a_column_of_something_else_is_no_label(tmp_path: Path, write: Write) -> None:
    root = put(tmp_path / "photos", "a.png", "b.png")
    for cell in ("2", "maybe", ""):
        file = write("path,crack,rust", "a.png,1,0", f"b.png,1,{cell}")
        with pytest.raises(ValueError, match=rf"labels\.csv has '{cell}' in its column 'rust'.*; write 0 or 1"):
            open_data(str(root), labels=file)
