from collections.abc import Callable
from pathlib import Path

import pytest

from openmae.data.sources import Source, open_data
from tests.data.sources.test_sources import contents, names, put, put_parquet, splits


def write(file: Path, *lines: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def test_a_glob_of_images_is_a_folder_of_only_these(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.png", "a.jpg", "deep/c.png", "notes.txt")
    assert names(open_data(str(tmp_path / "*.png")).train) == ["a.png", "b.png"]
    assert names(open_data(str(tmp_path / "**" / "*.png")).train) == ["a.png", "b.png", "deep/c.png"]
    assert contents(open_data(str(tmp_path / "*.jpg")).train) == ["a.jpg"]


def test_the_folders_in_a_glob_are_splits_and_classes(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "train/dog/2.txt", "val/dog/3.png", "other/4.jpg")
    data = open_data(str(tmp_path / "*" / "*" / "*.png"))
    assert splits(data) == {"train": ["cat/1.png", "dog/2.png"], "val": ["dog/3.png"]}
    assert data.splits["val"].labels.tolist() == [1]


def test_a_glob_of_folders_holds_their_images(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "2023-a/1.png", "2023-b/deep/2.png", "2024-a/3.png") / "2023-*"))
    assert names(data.train) == ["2023-a/1.png", "2023-b/deep/2.png"]


def test_a_glob_in_the_folder_where_one_stands_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put(tmp_path, "a.png", "b.jpg"))
    assert contents(open_data("*.png").train) == ["a.png"]


def test_a_text_file_lists_images_by_paths_from_its_folder_or_whole_ones(
    tmp_path: Path, read_everywhere: Callable[[Source], list[tuple[str, bytes, int]]]
) -> None:
    put(tmp_path, "photos/a.png", "photos/deep/b.png", "photos/c.png", "other/d.png")
    file = write(tmp_path / "lists" / "some.txt", "../photos/deep/b.png", "", str(tmp_path / "photos" / "a.png"))
    assert read_everywhere(open_data(file).train) == [
        ("a.png", b"photos/a.png", -1),
        ("deep/b.png", b"photos/deep/b.png", -1),
    ]


def test_a_csv_file_lists_images_with_their_labels(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.png", "photos/b.png", "more/c.png", "photos/left.png")
    source = open_data(
        write(tmp_path / "x.csv", "path,label", "photos/b.png,dog", "more/c.png,cat", "photos/a.png,")
    ).train
    assert names(source) == ["more/c.png", "photos/a.png", "photos/b.png"]
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, -1, 1]


def test_labels_in_a_list_that_lies_elsewhere_find_their_images(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.png", "lists/b.png")
    source = open_data(write(tmp_path / "lists" / "x.csv", "../photos/a.png,cat", "b.png,dog")).train
    assert names(source) == ["lists/b.png", "photos/a.png"]
    assert [source.classes[label] for label in source.labels] == ["dog", "cat"]


def test_a_column_called_split_divides_the_images_of_a_csv_file(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "c.png", "d.png")
    lines = ("path,label,split", "a.png,cat,train", "b.png,dog,Train", "c.png,dog,validation", "d.png,,unlabeled")
    data = open_data(write(tmp_path / "x.csv", *(line.replace("Train", "train") for line in lines)))
    assert splits(data) == {"train": ["a.png", "b.png"], "val": ["c.png"], "unlabeled": ["d.png"]}
    assert [source.labels.tolist() for source in data.splits.values()][:2] == [[0, 1], [1]]


def test_an_image_that_is_listed_twice_is_taken_once_and_it_is_said(said: list[str], tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    assert len(open_data(write(tmp_path / "x.txt", "a.png", "b.png", "./a.png")).train) == 2
    assert said == [f"{tmp_path}/x.txt lists 1 images twice; each is taken once"]


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("x.txt", [""], "lists no images; write a path a line, or a CSV file"),
        (
            "x.txt",
            ["a.png", "gone.png"],
            "lists 1 of 2 images that are not there, the first one 'gone.png'; write paths",
        ),
        ("x.txt", ["a.png 3"], "1 of 1 images that are not there, the first one 'a.png 3'"),
        ("x.txt", ["a.png", "s3://bucket/b.png"], "lists both paths and URLs; write a list for each"),
        ("x.csv", ["path,split", "a.png,"], "names no split for a.png; fill the column split"),
        ("x.csv", ["path,label,split", "a.png,cat"], "has the line 'a.png,cat' with 2 columns of 3; repair it"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path: Path, file: str, lines: list[str], message: str) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(ValueError, match=message):
        open_data(write(tmp_path / file, *lines))


# Several places


def test_several_places_are_one_data_set_with_splits_and_classes_joined_by_name(
    tmp_path: Path, read_everywhere: Callable[[Source], list[tuple[str, bytes, int]]]
) -> None:
    put(tmp_path / "a", "train/dog/1.png", "train/emu/1.png", "val/emu/1.png", "unlabeled/1.png")
    put_parquet(tmp_path / "b" / "train.parquet", [1, 0], classes=["emu", "cat"])
    put_parquet(tmp_path / "b" / "validation.parquet", [1], classes=["cat", "emu"])
    data = open_data([str(tmp_path / "a"), str(tmp_path / "b")])
    a, b = tmp_path / "a", tmp_path / "b"
    assert splits(data) == {
        "train": [f"{a}/dog/1.png", f"{a}/emu/1.png", f"{b}/train.parquet:0", f"{b}/train.parquet:1"],
        "val": [f"{a}/emu/1.png", f"{b}/validation.parquet:0"],
        "unlabeled": [f"{a}/1.png"],
    }
    classes = [[source.classes[label] for label in source.labels] for source in data.splits.values()][:2]
    assert classes == [["dog", "emu", "cat", "emu"], ["emu", "emu"]]
    assert data.splits["val"].classes[: len(data.train.classes)] == data.train.classes
    assert next(content for _, content, _ in read_everywhere(data.train)) == b"train/dog/1.png"


def test_places_that_are_called_as_splits_are_these_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "val/2.png", "more/3.png")
    data = open_data([str(tmp_path / name) + "/" for name in ("train", "val", "more")])
    assert {split: len(source) for split, source in data.splits.items()} == {"train": 2, "val": 1}


def test_labels_of_a_file_reach_the_images_of_every_place(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    labels = write(tmp_path / "labels.csv", "path,label", "a/1.png,cat", "b/1.png,dog")
    source = open_data([str(tmp_path / "a"), str(tmp_path / "b")], labels=labels).train
    assert [source.classes[label] for label in source.labels] == ["cat", "dog"]
    labels = write(tmp_path / "labels.csv", "path,label", "1.png,cat")
    with pytest.raises(ValueError, match=r"'1.png', which names an image in several places; write whole paths"):
        open_data([str(tmp_path / "a"), str(tmp_path / "b")], labels=labels)


def test_a_place_given_twice_or_within_another_is_refused(tmp_path: Path) -> None:
    root = put(tmp_path, "a/b/1.png")
    with pytest.raises(ValueError, match="twice; give each place once"):
        open_data([str(root / "a"), f"{root}/a/"])
    with pytest.raises(ValueError, match=r"a/b, which lies in .*a; give one of them"):
        open_data([str(root / "a" / "b"), str(root / "a")])
