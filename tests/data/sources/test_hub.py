import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from openmae.data.sources import HubSource, Source, open_data

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), level).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and a separate cache."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    datasets.disable_progress_bars()


def split(*levels: int, label: Any = None, **more: list[Any]) -> datasets.Dataset:
    """A data set of grey images; labels count up unless given."""
    columns: dict[str, Any] = {"image": [{"bytes": png(level), "path": None} for level in levels], **more}
    features: dict[str, Any] = {"image": datasets.Image(), **{name: datasets.Value("string") for name in more}}
    columns["label"] = list(range(len(levels))) if label is None else label
    features["label"] = datasets.ClassLabel(names=["cat", "dog", "emu"])
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def saved(root: Path, **splits: datasets.Dataset) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(root))
    return f"hf://{root}"


def test_a_saved_data_set_reads_the_same_in_loader_processes(tmp_path: Path, read_everywhere: ReadEverywhere) -> None:
    split(10, 20, 30).save_to_disk(str(tmp_path / "saved"))
    spec = f"hf://{tmp_path}/saved"
    data = open_data(spec)
    assert read_everywhere(data.train) == [(f"{spec}:{row}", png(10 + 10 * row), row) for row in range(3)]
    assert data.train.classes == ("cat", "dog", "emu")
    assert data.test is None


@pytest.mark.parametrize("test_name", ["test", "validation"])
def test_saved_splits_are_splits(tmp_path: Path, test_name: str) -> None:
    spec = saved(tmp_path / "saved", **{test_name: split(1), "train": split(2, 3), "extra": split(4)})
    data = open_data(spec)
    assert [data.train.read(index) for index in range(2)] == [png(2), png(3)]
    assert data.test is not None
    assert data.test.read(0) == png(1)
    assert data.test.name(0) == f"{spec}/{test_name}:0"


def test_a_test_split_without_labels_gives_way_to_one_that_has_them(tmp_path: Path) -> None:
    spec = saved(tmp_path / "s", train=split(1), test=split(2, label=[-1]), validation=split(3))
    test = open_data(spec).test
    assert test is not None
    assert test.read(0) == png(3)


def test_splits_of_which_none_is_for_training_stay_apart_and_a_choice_is_asked_for(tmp_path: Path) -> None:
    data = open_data(saved(tmp_path / "s", small=split(1), large=split(2), test=split(3)))
    assert {name: len(source) for name, source in data.splits.items()} == {"test": 1, "small": 1, "large": 1}
    with pytest.raises(ValueError, match="none of the splits test, small, large is called train; choose what to train"):
        _ = data.train


def test_every_split_of_a_hub_data_set_is_there_and_the_usual_names_come_first(tmp_path: Path) -> None:
    spec = saved(tmp_path / "s", unsupervised=split(4), test=split(3), validation=split(2), train=split(1))
    data = open_data(spec)
    assert {name: source.read(0) for name, source in data.splits.items()} == {
        "train": png(1), "val": png(2), "test": png(3), "unsupervised": png(4)
    }  # fmt: skip
    assert list(data.splits) == ["train", "val", "test", "unsupervised"]


def test_a_single_split_of_any_name_is_trained_on(tmp_path: Path) -> None:
    data = open_data(saved(tmp_path / "s", everything=split(1)))
    assert (data.train.read(0), data.test) == (png(1), None)


def test_a_test_split_alone_is_trained_on(tmp_path: Path) -> None:
    data = open_data(saved(tmp_path / "s", test=split(1)))
    assert (data.train.read(0), data.test) == (png(1), None)


def test_a_local_folder_of_images_is_loaded_by_the_library(tmp_path: Path) -> None:
    for name, level in (("train/cat/1.png", 1), ("train/dog/1.png", 2), ("test/dog/2.png", 3)):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(png(level))
    data = open_data(f"hf://{tmp_path}/data")
    assert data.train.classes == ("cat", "dog")
    assert [data.train.read(index) for index in range(2)] == [png(1), png(2)]
    assert data.test is not None
    assert (data.test.read(0), data.test.labels.tolist()) == (png(3), [1])


def test_an_image_that_has_gone_is_an_error_of_that_image_only(tmp_path: Path) -> None:
    for level in (1, 2):
        (tmp_path / f"{level}.png").write_bytes(png(level))
    images = datasets.Dataset.from_dict({"image": [str(tmp_path / "1.png"), str(tmp_path / "2.png")]})
    source = HubSource(images.cast_column("image", datasets.Image()), "it")
    (tmp_path / "2.png").unlink()
    assert source.read(0) == png(1)
    with pytest.raises(OSError, match=r"2\.png"):
        source.read(1)


def test_labels_that_are_names_become_classes(tmp_path: Path) -> None:
    plain = split(1, 2).remove_columns("label").add_column("label", ["emu", "ant"])
    source = open_data(saved(tmp_path / "s", train=plain)).train
    assert (source.classes, source.labels.tolist()) == (("ant", "emu"), [1, 0])


def test_lists_of_classes_are_several_labels_with_their_names(tmp_path: Path) -> None:
    feature = datasets.Sequence(datasets.ClassLabel(names=["rust", "crack"]))
    several = split(1, 2).remove_columns("label").add_column("label", [[1, 0], []]).cast_column("label", feature)
    targets = open_data(saved(tmp_path / "s", train=several)).train.targets("labels")
    assert (targets.names, targets.values.tolist()) == (("rust", "crack"), [[True, True], [False, False]])


def test_fractions_are_numbers(tmp_path: Path) -> None:
    source = open_data(fractional_labels(tmp_path)).train
    assert source.targets("number").values.tolist() == [0.5]


def test_images_without_labels_are_unlabelled(tmp_path: Path) -> None:
    source = open_data(saved(tmp_path / "s", train=split(1, 2).remove_columns("label"))).train
    assert (source.classes, source.labels.tolist()) == ((), [-1, -1])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("hf://owner/name", ("owner/name",)), ("hf://owner/name/config", ("owner/name", "config"))],
)
def test_a_hub_name_goes_to_the_library(spec: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def load_dataset(*arguments: str) -> datasets.DatasetDict:
        asked.append(arguments)
        return datasets.DatasetDict(train=split(1))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert open_data(spec).train.read(0) == png(1)
    assert asked == [expected]


def no_images(root: Path) -> str:
    return saved(root / "s", train=split(1).remove_columns("image"))


def test_a_data_set_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no images in it: it has no rows; choose a data set of images"):
        HubSource(split(), "it")


def fractional_labels(root: Path) -> str:
    return saved(root / "s", train=split(1).remove_columns("label").add_column("label", [0.5]))


def nothing_there(root: Path) -> str:
    return f"hf://{root}/nowhere"


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (no_images, "has no image column (found: label)", "choose a data set of images"),
        (fractional_labels, "gives numbers (such as 0.5), not classes", "--task regression"),
        (nothing_there, "cannot be loaded", "check its name and your access to it"),
    ],
)
def test_hub_data_that_cannot_be_used_say_what_was_found_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], str], found: str, remedy: str
) -> None:
    with pytest.raises(ValueError, match=r"hf://") as caught:
        _ = open_data(make(tmp_path)).train.labels
    assert found in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_library_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r"pip install 'openmae\[hf\]'"):
        open_data("hf://owner/name")
