import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openmae.data.sources import Data, Source, Subset, open_data
from openmae.data.sources.taking import for_pretraining


def put(root: Path, *names: str) -> Path:
    """Files of these names below `root`; each contains its own name, so that tests can distinguish them."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, encoding="utf-8")
    return root


def put_parquet(
    file: Path,
    labels: Sequence[Any] | None = None,
    *,
    images: int | None = None,
    image_column: str = "image",
    label_column: str = "label",
    bytes_type: Any = None,
    classes: Sequence[str] | None = None,
    metadata: bytes | None = None,
    rows_per_group: int | None = None,
) -> Path:
    """A Parquet file in Hugging Face layout; the bytes of row r of file F are b"F:r"."""
    count = len(labels) if labels is not None else images or 0
    layout = pa.struct([("bytes", bytes_type or pa.binary()), ("path", pa.string())])
    rows = [{"bytes": f"{file.name}:{row}".encode(), "path": None} for row in range(count)]
    columns: dict[str, Any] = {image_column: pa.array(rows, type=layout)}
    if labels is not None:
        columns[label_column] = pa.array(labels)
    table = pa.table(columns)
    if classes is not None:
        features = {image_column: {"_type": "Image"}, label_column: {"names": list(classes), "_type": "ClassLabel"}}
        metadata = json.dumps({"info": {"features": features}}).encode()
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=rows_per_group)
    return file


def names(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def contents(source: Source) -> list[str]:
    return [source.read(index).decode("utf-8") for index in range(len(source))]


def splits(data: Data) -> dict[str, list[str]]:
    return {split: names(source) for split, source in data.splits.items()}


def held_out(data: Data) -> Source:
    assert data.test is not None
    return data.test


# Folders


def test_a_flat_folder_is_unlabelled_and_sorted_by_name(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "b.jpg", "a.png", "c.webp")))
    assert names(data.train) == contents(data.train) == ["a.png", "b.jpg", "c.webp"]
    assert data.train.labels.tolist() == [-1, -1, -1]
    assert data.train.labels.dtype == np.int64
    assert data.train.classes == ()
    assert data.test is None


def test_class_folders_give_labels_in_the_order_of_their_names(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "dog/1.png", "cat/2.png", "cat/1.png", "emu/1.png"))).train
    assert source.classes == ("cat", "dog", "emu")
    assert names(source) == ["cat/1.png", "cat/2.png", "dog/1.png", "emu/1.png"]
    assert source.labels.tolist() == [0, 0, 1, 2]


def test_the_class_is_the_first_folder_level_of_nested_folders(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "cat/indoors/old/1.png", "cat/2.png", "dog/indoors/1.png"))).train
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 1]
    assert contents(source) == ["cat/2.png", "cat/indoors/old/1.png", "dog/indoors/1.png"]


def test_a_single_class_folder_is_no_label(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "photos/1.png", "photos/sub/2.png"))).train
    assert len(source) == 2
    assert source.classes == ()
    assert source.labels.tolist() == [-1, -1]


def test_images_beside_class_folders_have_no_label_and_the_others_keep_theirs(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "cat/1.png", "dog/1.png", "stray.png"))).train
    assert source.classes == ("cat", "dog")
    assert names(source) == ["cat/1.png", "dog/1.png", "stray.png"]
    assert source.labels.tolist() == [0, 1, -1]


def test_folders_are_no_classes_when_half_of_the_images_lie_beside_them(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "cat/1.png", "dog/1.png", "3.png", "4.png"))).train
    assert source.classes == ()
    assert source.labels.tolist() == [-1, -1, -1, -1]


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation", "Test"])
@pytest.mark.parametrize("train_name", ["train", "training", "TRAIN"])
def test_train_and_test_folders_are_splits_with_the_classes_of_train(
    tmp_path: Path, train_name: str, test_name: str
) -> None:
    put(tmp_path / train_name, "ant/1.png", "bee/1.png", "cow/1.png", "cow/2.png")
    put(tmp_path / test_name, "cow/9.png", "bee/9.png")
    data = open_data(str(tmp_path))
    assert data.train.classes == held_out(data).classes == ("ant", "bee", "cow")
    assert data.train.labels.tolist() == [0, 1, 2, 2]
    assert names(held_out(data)) == ["bee/9.png", "cow/9.png"]
    assert held_out(data).labels.tolist() == [1, 2]


def test_a_class_that_only_the_test_split_has_comes_behind_those_of_the_training_split(tmp_path: Path) -> None:
    put(tmp_path, "train/ant/1.png", "train/bee/1.png", "test/ant/1.png", "test/zebra/1.png")
    test = held_out(open_data(str(tmp_path)))
    assert (test.labels.tolist(), test.classes) == ([0, 2], ("ant", "bee", "zebra"))


def test_the_test_folder_goes_before_val(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/1.png", "val/2.png", "test/3.png")))
    assert contents(held_out(data)) == ["test/3.png"]


def test_a_train_folder_alone_is_a_set_without_test_split(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/1.png", "train/2.png")))
    assert len(data.train) == 2
    assert data.test is None


def test_a_class_called_train_is_a_class_like_any_other(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "car/1.png", "plane/1.png", "train/1.png"))).train
    assert source.classes == ("car", "plane", "train")
    assert len(source) == 3


@pytest.mark.parametrize("beside", ["annotations/1.xml", "extra/1.png", "logo.png"])
def test_a_train_folder_of_class_folders_is_a_split_whatever_lies_beside_it(tmp_path: Path, beside: str) -> None:
    source = open_data(str(put(tmp_path, "train/cat/1.png", "train/dog/1.png", beside))).train
    assert source.classes == ("cat", "dog")
    assert names(source) == ["cat/1.png", "dog/1.png"]


@pytest.mark.parametrize("beside", ["annotations/1.xml", "logo.png"])
def test_a_flat_train_folder_is_a_split_when_nothing_beside_it_is_a_class(tmp_path: Path, beside: str) -> None:
    assert names(open_data(str(put(tmp_path, "train/1.png", beside))).train) == ["1.png"]


def test_folders_beside_a_training_split_are_splits_of_their_own(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/1.png", "test/2.png", "unlabelled/3.png", "val/4.png")))
    assert {name: contents(source) for name, source in data.splits.items()} == {
        "train": ["train/1.png"], "val": ["val/4.png"], "test": ["test/2.png"], "unlabelled": ["unlabelled/3.png"]
    }  # fmt: skip
    assert list(data.splits) == ["train", "val", "test", "unlabelled"]


def test_images_beside_the_folders_of_splits_are_left_out_counted_and_named(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/1.png", "test/2.png", "a.png", "b.png", "c.png", "d.png")))
    assert data.left_out == (("a.png, b.png, c.png, …", 4, "beside the folders of the splits"),)


def test_val_and_test_folders_without_a_training_split_are_no_classes(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "val/cat/1.png", "val/dog/2.png", "test/cat/3.png", "test/dog/4.png")))
    assert splits(data) == {"val": ["cat/1.png", "dog/2.png"], "test": ["cat/3.png", "dog/4.png"]}
    assert (names(data.train), data.train.classes) == (["cat/1.png", "dog/2.png"], ("cat", "dog"))
    assert names(held_out(data)) == ["cat/3.png", "dog/4.png"]


def test_classes_called_valid_and_invalid_are_classes(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "valid/1.png", "invalid/2.png")))
    assert data.train.classes == ("invalid", "valid")
    assert list(data.splits) == ["train"]


def test_a_test_folder_beside_the_class_folders_that_it_repeats_is_their_test_split(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "cat/1.png", "dog/2.png", "test/cat/3.png", "test/dog/4.png")))
    assert splits(data) == {"train": ["cat/1.png", "dog/2.png"], "test": ["cat/3.png", "dog/4.png"]}
    assert data.train.classes == held_out(data).classes == ("cat", "dog")


def test_a_test_folder_with_classes_beside_one_folder_without_is_a_split(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "images/1.png", "test/cat/3.png", "test/dog/4.png")))
    assert splits(data) == {"train": ["1.png"], "test": ["cat/3.png", "dog/4.png"]}


def test_folders_for_one_split_are_never_merged_and_the_second_stays_held_out(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/1.png", "dev/2.png", "eval/3.png", "test2019/4.png")))
    assert splits(data) == {"train": ["1.png"], "val": ["2.png"], "test": ["4.png"], "eval": ["3.png"]}


def test_the_folders_of_image_translation_are_splits_of_which_the_test_ones_are_held_out(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "trainA/1.png", "trainB/2.png", "testA/3.png", "testB/4.png")))
    assert splits(data) == {"train": ["1.png"], "test": ["3.png"], "trainB": ["2.png"], "testB": ["4.png"]}
    assert for_pretraining(data).splits == ("train", "trainB")


def test_the_folders_of_an_unlabelled_split_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "unlabeled/monday/3.png", "unlabeled/tuesday/4.png")
    unlabelled = open_data(str(tmp_path)).splits["unlabeled"]
    assert (unlabelled.labels.tolist(), unlabelled.classes) == ([-1, -1], ())


def test_a_split_with_a_single_class_folder_has_the_class_of_the_training_split(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/dog/3.png", "test/4.png")))
    assert held_out(data).labels.tolist() == [-1, 1]


def test_a_hidden_folder_beside_train_changes_nothing(tmp_path: Path) -> None:
    assert names(open_data(str(put(tmp_path, "train/1.png", ".cache/2.png"))).train) == ["1.png"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / ".hidden root", "a.png", "._a.png", ".thumbnails/b.png", "sub/._c.png", "sub/c.png")
    assert names(open_data(str(tmp_path / ".hidden root")).train) == ["a.png", "sub/c.png"]


def test_a_test_folder_alone_is_trained_on(tmp_path: Path) -> None:
    data = open_data(str(put(tmp_path, "val/a/1.png", "val/b/2.png")))
    assert len(data.train) == 2
    assert data.test is None


def test_upper_case_extensions_are_images(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "a.JPEG", "b.Png", "c.JPG", "d.TIF"))).train
    assert names(source) == ["a.JPEG", "b.Png", "c.JPG", "d.TIF"]


def test_names_may_hold_any_character(tmp_path: Path) -> None:
    put(tmp_path / "фото [1] *", "猫/ä 1.png", "собака/🐕?.png")
    source = open_data(str(tmp_path / "фото [1] *")).train
    assert source.classes == ("собака", "猫")
    assert contents(source) == names(source) == ["собака/🐕?.png", "猫/ä 1.png"]


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "labels.csv", "README", "paper.pdf", "features.h5", "clip.mpg", "figure.eps", "notes.txt")
    assert names(open_data(str(tmp_path)).train) == ["a.png"]


def test_a_folder_named_like_an_image_is_none(tmp_path: Path) -> None:
    assert names(open_data(str(put(tmp_path, "x.png/a.png"))).train) == ["x.png/a.png"]


def test_a_leading_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "photos", "a.png")
    assert len(open_data("~/photos").train) == 1


# Parquet


def test_a_parquet_file_is_a_training_set(tmp_path: Path) -> None:
    data = open_data(str(put_parquet(tmp_path / "x.parquet", [2, 0, 1])))
    assert contents(data.train) == names(data.train) == ["x.parquet:0", "x.parquet:1", "x.parquet:2"]
    assert data.train.labels.tolist() == [2, 0, 1]
    assert data.train.labels.dtype == np.int64
    assert data.train.classes == ("0", "1", "2")
    assert data.test is None


@pytest.mark.parametrize("test_name", ["test", "val", "validation", "Test"])
@pytest.mark.parametrize("name", ["{}-00000-of-00001.parquet", "{}.parquet", "{}/0000.parquet", "data/{}/0.parquet"])
def test_parquet_files_named_train_and_test_are_splits(tmp_path: Path, name: str, test_name: str) -> None:
    put_parquet(tmp_path / name.format("train"), [0, 1])
    put_parquet(tmp_path / name.format(test_name), [1])
    data = open_data(str(tmp_path))
    assert (data.train.labels.tolist(), held_out(data).labels.tolist()) == ([0, 1], [1])


def test_a_parquet_file_belongs_to_one_split_whatever_its_folder_is_called(tmp_path: Path) -> None:
    put_parquet(tmp_path / "train" / "train-0.parquet", [0])
    put_parquet(tmp_path / "train" / "test-0.parquet", [1])
    data = open_data(str(tmp_path / "train"))
    assert names(data.train) == ["train-0.parquet:0"]
    assert names(held_out(data)) == ["test-0.parquet:0"]


def test_parquet_files_without_split_names_are_all_trained_on_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (3, 0, 5, 2, 4, 1):
        put_parquet(tmp_path / f"part-{number}.parquet", [0])
    data = open_data(str(tmp_path))
    assert names(data.train) == [f"part-{number}.parquet:0" for number in range(6)]
    assert data.test is None


def test_parquet_files_that_are_not_the_test_split_are_trained_on(tmp_path: Path) -> None:
    put_parquet(tmp_path / "part-0.parquet", [0])
    put_parquet(tmp_path / "test-0.parquet", [0])
    data = open_data(str(tmp_path))
    assert (names(data.train), names(held_out(data))) == (["part-0.parquet:0"], ["test-0.parquet:0"])


def test_a_test_parquet_file_alone_is_trained_on(tmp_path: Path) -> None:
    data = open_data(str(put_parquet(tmp_path / "test-0.parquet", [0]).parent))
    assert names(data.train) == ["test-0.parquet:0"]
    assert data.test is None


def test_a_glob_selects_parquet_files_and_their_splits(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "train-2", "test-0", "other"):
        put_parquet(tmp_path / "deep" / "deeper" / f"{name}.parquet", [0])
    data = open_data(str(tmp_path / "**" / "t*-[01].parquet"))
    assert names(data.train) == ["train-0.parquet:0", "train-1.parquet:0"]
    assert names(held_out(data)) == ["test-0.parquet:0"]


@pytest.mark.parametrize("image_column", ["image", "img"])
@pytest.mark.parametrize("label_column", ["label", "labels", "fine_label", "target"])
def test_usual_column_names_are_understood(tmp_path: Path, image_column: str, label_column: str) -> None:
    file = put_parquet(
        tmp_path / "x.parquet", [1, 0], image_column=image_column, label_column=label_column, classes=["no", "yes"]
    )
    source = open_data(str(file)).train
    assert source.labels.tolist() == [1, 0]
    assert source.classes == ("no", "yes")
    assert source.read(1) == b"x.parquet:1"


@pytest.mark.parametrize("bytes_type", [pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_of_any_binary_type_are_read(tmp_path: Path, bytes_type: Any) -> None:
    source = open_data(str(put_parquet(tmp_path / "x.parquet", [0, 0], bytes_type=bytes_type))).train
    assert source.read(1) == b"x.parquet:1"


def test_class_names_come_from_hugging_face_metadata(tmp_path: Path) -> None:
    put_parquet(tmp_path / "train.parquet", [1, 0], classes=["ant", "bee", "cow"])
    put_parquet(tmp_path / "test.parquet", [0], classes=["ant", "bee", "cow"])
    data = open_data(str(tmp_path))
    assert data.train.classes == held_out(data).classes == ("ant", "bee", "cow")


@pytest.mark.parametrize(
    "metadata", [b"{", b"[]", b"null", b'{"info": null}', b'{"info": {"features": {"label": {"dtype": "int64"}}}}']
)
def test_metadata_that_names_no_classes_is_passed_over(tmp_path: Path, metadata: bytes) -> None:
    assert open_data(str(put_parquet(tmp_path / "x.parquet", [0, 1], metadata=metadata))).train.classes == ("0", "1")


def test_classes_count_the_labels_of_every_file(tmp_path: Path) -> None:
    put_parquet(tmp_path / "train-0.parquet", [0, 1])
    put_parquet(tmp_path / "train-1.parquet", [2, 3])
    assert open_data(str(tmp_path)).train.classes == ("0", "1", "2", "3")


def test_parquet_without_a_label_column_is_unlabelled(tmp_path: Path) -> None:
    source = open_data(str(put_parquet(tmp_path / "x.parquet", images=3))).train
    assert source.labels.tolist() == [-1, -1, -1]
    assert source.classes == ()


def test_missing_labels_are_minus_one(tmp_path: Path) -> None:
    source = open_data(str(put_parquet(tmp_path / "x.parquet", [None, 2, None]))).train
    assert source.labels.tolist() == [-1, 0, -1]
    assert source.classes == ("2",)


def test_labelled_and_unlabelled_files_go_together(tmp_path: Path) -> None:
    put_parquet(tmp_path / "a.parquet", images=1)
    put_parquet(tmp_path / "b.parquet", [0, 1], classes=["no", "yes"])
    source = open_data(str(tmp_path)).train
    assert source.labels.tolist() == [-1, 0, 1]
    assert source.classes == ("no", "yes")


def test_folders_of_a_measured_split_are_classes_although_training_has_others(tmp_path: Path) -> None:
    put(tmp_path, "train/ant/1.png", "train/bee/1.png", "val/emu/1.png", "unlabeled/batch1/1.png")
    data = open_data(str(tmp_path))
    assert [data.splits["val"].classes[label] for label in data.splits["val"].labels] == ["emu"]
    assert data.splits["unlabeled"].labels.tolist() == [-1]


def test_files_that_count_their_classes_in_another_order_are_joined_by_name(tmp_path: Path) -> None:
    put_parquet(tmp_path / "a.parquet", [0, 1], classes=["cat", "dog"])
    put_parquet(tmp_path / "b.parquet", [0, 1, 2], classes=["dog", "cat", "emu"])
    source = open_data(str(tmp_path)).train
    assert source.classes == ("cat", "dog", "emu")
    assert source.labels.tolist() == [0, 1, 1, 0, 2]


def test_rows_of_several_row_groups_and_files_keep_their_names(tmp_path: Path) -> None:
    put_parquet(tmp_path / "a.parquet", [0] * 5, rows_per_group=2)
    put_parquet(tmp_path / "b.parquet", images=0)
    put_parquet(tmp_path / "c.parquet", [1] * 3, rows_per_group=1)
    source = open_data(str(tmp_path)).train
    expected = [f"a.parquet:{row}" for row in range(5)] + [f"c.parquet:{row}" for row in range(3)]
    assert names(source) == contents(source) == expected
    assert source.labels.tolist() == [0] * 5 + [1] * 3


def test_a_row_without_bytes_is_an_error_of_that_row_only(tmp_path: Path) -> None:
    layout = pa.struct([("bytes", pa.binary())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"x"}, {"bytes": None}], layout)}), tmp_path / "x.parquet")
    source = open_data(str(tmp_path / "x.parquet")).train
    assert source.read(0) == b"x"
    with pytest.raises(OSError, match="no embedded bytes"):
        source.read(1)


def test_parquet_files_that_name_no_split_beside_a_training_split_are_splits_of_their_own(tmp_path: Path) -> None:
    files = ("train-0", "validation-00000-of-00001", "test-0", "extra-00000-of-00002", "extra-00001-of-00002", "more/0")
    for name in files:
        put_parquet(tmp_path / f"{name}.parquet", [0])
    assert splits(open_data(str(tmp_path))) == {
        "train": ["train-0.parquet:0"],
        "val": ["validation-00000-of-00001.parquet:0"],
        "test": ["test-0.parquet:0"],
        "extra": ["extra-00000-of-00002.parquet:0", "extra-00001-of-00002.parquet:0"],
        "more": ["0.parquet:0"],
    }


# Subsets and the bundled images


def test_a_subset_shows_the_chosen_images_of_its_source(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png", "emu/1.png"))).train
    subset = Subset(source, np.array([3, 0]))
    assert len(subset) == 2
    assert names(subset) == contents(subset) == ["emu/1.png", "cat/1.png"]
    assert subset.labels.tolist() == [2, 0]
    assert subset.classes == source.classes


def test_fashion_mnist_ships_with_the_package_balanced_and_readable() -> None:
    data = open_data("fashion-mnist")
    assert np.bincount(data.train.labels).tolist() == [1000] * 10
    assert np.bincount(held_out(data).labels).tolist() == [200] * 10
    assert len(data.train) == 10_000
    assert len(held_out(data)) == 2_000
    for source in (data.train, held_out(data)):
        assert len(source.classes) == 10
        assert source.classes[9] == "Ankle boot"
        for index in range(len(source)):
            with Image.open(io.BytesIO(source.read(index))) as image:
                image.load()
                assert (image.mode, image.size) == ("L", (28, 28))


# Data that cannot be opened: the message gives what was found, and what to do


def empty_folder(root: Path) -> str:
    return str(root)


def folder_without_images(root: Path) -> str:
    return str(put(root, "a.txt", "deep/b.csv", "c"))


def missing_path(root: Path) -> str:
    return str(root / "nowhere")


def image_file(root: Path) -> str:
    return str(put(root, "a.png") / "a.png")


def broken_parquet(root: Path) -> str:
    return str(put(root, "a.parquet") / "a.parquet")


def truncated_parquet(root: Path) -> str:
    file = put_parquet(root / "a.parquet", [0, 1])
    file.write_bytes(file.read_bytes()[:-20])
    return str(file)


def parquet_without_image_column(root: Path) -> str:
    pq.write_table(pa.table({"pixels": [1], "name": ["a"]}), root / "a.parquet")
    return str(root)


def parquet_with_bytes_as_text(root: Path) -> str:
    pq.write_table(pa.table({"image": pa.array([{"bytes": "x"}])}), root / "a.parquet")
    return str(root)


def parquet_without_rows(root: Path) -> str:
    return str(put_parquet(root / "a.parquet", images=0))


def parquet_files_of_differing_labels(root: Path) -> str:
    put_parquet(root / "a.parquet", ["cat", "dog"])
    return str(put_parquet(root / "b.parquet", [0, 1]).parent)


def parquet_with_lists_of_labels(root: Path) -> str:
    return str(put_parquet(root / "a.parquet", [[0], [1, 2]]))


def parquet_with_fractional_labels(root: Path) -> str:
    return str(put_parquet(root / "a.parquet", [0.5]))


def parquet_with_a_label_beyond_its_classes(root: Path) -> str:
    return str(put_parquet(root / "a.parquet", [5], classes=["cat", "dog"]))


def parquet_files_of_differing_layout(root: Path) -> str:
    put_parquet(root / "a.parquet", [0])
    pq.write_table(pa.table({"pixels": [1]}), root / "b.parquet")
    return str(root)


def parquet_files_of_several_namings(root: Path) -> str:
    put_parquet(root / "a.parquet", [0], classes=["cat", "dog"])
    put_parquet(root / "b.parquet", [0], classes=["dog", "cat"])
    return str(put_parquet(root / "c.parquet", [0]).parent)


def glob_without_match(root: Path) -> str:
    return str(root / "train-*.parquet")


def empty_test_folder(root: Path) -> str:
    (root / "test").mkdir()
    return str(put(root, "train/a.png"))


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (empty_folder, "it is empty", "point --data at a folder"),
        (folder_without_images, "3 files, none of them an image", "point --data at a folder"),
        (missing_path, "there is no ", "give a folder of images, a Parquet file, tar shards, or 'fashion-mnist'"),
        (image_file, "is a single file", "give the folder that holds the images"),
        (broken_parquet, "a.parquet is not a readable Parquet file", "check that it was copied whole"),
        (truncated_parquet, "a.parquet is not a readable Parquet file", "check that it was copied whole"),
        (parquet_without_image_column, "found: pixels, name", "a column 'image' of {bytes, path}"),
        (parquet_with_bytes_as_text, "no image column with bytes or paths", "a column 'image' of {bytes, path}"),
        (parquet_without_rows, "it has no rows", "give Parquet files that hold images"),
        (parquet_files_of_differing_labels, "labels of different types (int64, string)", "pass files that agree"),
        (parquet_with_lists_of_labels, "several labels to an image (such as 1;2)", "--task multilabel"),
        (parquet_with_fractional_labels, "numbers (such as 0.5), not classes", "--task regression"),
        (parquet_with_a_label_beyond_its_classes, "label 5 but names only 2 classes", "repair its labels"),
        (parquet_files_of_differing_layout, "b.parquet has no image column", "a column 'image' of {bytes, path}"),
        (parquet_files_of_several_namings, "c.parquet has no names for its classes", "write the names into each file"),
        (glob_without_match, "matches no Parquet files", "give a pattern such as 'data/train-*.parquet'"),
        (empty_test_folder, "it is empty", "point --data at a folder"),
    ],
)
def test_data_that_cannot_be_opened_say_what_was_found_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], str], found: str, remedy: str
) -> None:
    spec = make(tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as caught:
        _ = open_data(spec).train.labels
    message = str(caught.value)
    assert found in message
    assert remedy in message
    assert "\n" not in message
