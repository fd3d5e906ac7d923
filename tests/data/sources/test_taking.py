from collections.abc import Sequence
from pathlib import Path

import pytest

from openmae.data.sources import Data, Source, open_data
from openmae.data.sources.taking import class_names, everything, find_split, for_pretraining


def put(root: Path, *names: str) -> Data:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    return open_data(str(root))


def names(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Every kind of split, and an image that belongs to none."""
    splits = ("train/a", "train/b", "validation/c", "test/d", "unlabeled/e", "unlabeled/f")
    return put(tmp_path, *(f"{name}.png" for name in splits), "logo.png")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), ("train", "unlabeled")),
        (("train",), ("train",)),
        (("unlabeled", "train"), ("train", "unlabeled")),
        (("validation", "TEST"), ("val", "test")),
    ],
)
def test_pretraining_takes_the_chosen_splits_else_all_that_are_not_held_out(
    data: Data, chosen: Sequence[str], expected: Sequence[str]
) -> None:
    assert for_pretraining(data, chosen).splits == expected


def test_the_images_of_the_training_split_come_first_and_have_the_name_of_their_split(data: Data) -> None:
    images = for_pretraining(data).images
    assert names(images) == ["train/a.png", "train/b.png", "unlabeled/e.png", "unlabeled/f.png"]
    assert [images.read(index).decode() for index in range(4)] == names(images)


def test_a_single_split_is_taken_as_it_is(tmp_path: Path) -> None:
    data = put(tmp_path, "train/a.png", "test/b.png")
    assert for_pretraining(data).images is data.train


@pytest.mark.parametrize(("files", "expected"), [(("val/a.png",), ("val",)), (("val/a.png", "test/b.png"), ("val",))])
def test_where_every_split_is_for_measuring_the_first_is_trained_on(
    tmp_path: Path, files: Sequence[str], expected: Sequence[str]
) -> None:
    assert for_pretraining(put(tmp_path, *files)).splits == expected


def test_an_unknown_split_is_an_error_that_lists_those_there_are(data: Data) -> None:
    with pytest.raises(
        ValueError, match=r"no split 'holdout'; choose among train \(2 images\), val \(1 images\), test"
    ):
        find_split(data, "holdout")


def test_pretraining_says_what_it_takes_and_what_not(data: Data) -> None:
    left_out = "left out: logo.png (1, beside the folders of the splits)"
    assert for_pretraining(data).sentence() == f"images: train 2, unlabeled 2; held out: val 1, test 1; {left_out}"
    chosen = for_pretraining(data, ["train"])
    assert chosen.sentence() == f"images: train 2; held out: val 1, test 1; not used: unlabeled 2; {left_out}"
    assert chosen.record()["splits"]["unlabeled"] == {"images": 2, "used": False}
    assert chosen.record()["left_out"] == [{"what": "logo.png", "images": 1, "why": "beside the folders of the splits"}]


def test_verbs_that_take_everything_say_classes_once_and_name_images_without_a_label(tmp_path: Path) -> None:
    files = ("train/a/1", "train/a/2", "train/b/1", "train/c/1", "train/stray", "test/a/1", "test/b/1", "unlabeled/1")
    data = put(tmp_path, *(f"{file}.png" for file in files))
    classes = {split: source.targets("class") for split, source in data.splits.items()}
    assert everything(data, classes) == (
        "train: 5 images of 3 classes a … c, 1 without a label (stray.png); test: 2; unlabeled: 1 without a label"
    )


def test_a_set_without_labels_says_so(tmp_path: Path) -> None:
    data = put(tmp_path, "1.png", "2.png")
    assert everything(data, {"train": data.train.targets("class")}) == "train: 2 images, without labels"


@pytest.mark.parametrize(
    ("classes", "text"), [("a", "1 class a"), ("ab", "2 classes a and b"), ("abcd", "4 classes a … d")]
)
def test_classes_are_named_by_the_first_and_the_last(classes: str, text: str) -> None:
    assert class_names(classes) == text
