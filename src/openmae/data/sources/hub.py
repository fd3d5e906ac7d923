"""Data sets of the Hugging Face hub, or in its formats on disk, through the `datasets` library."""

from pathlib import Path
from typing import Any

from openmae.data.sources.label_values import PlainLabels, null_labels, to_plain
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.naming import IMAGE_COLUMNS, LABEL_COLUMNS
from openmae.data.sources.split_names import SPLIT_OF, in_order, is_held_out, name_splits
from openmae.data.sources.storage import read_file
from openmae.errors import UserError, one_line

SCHEME = "hf://"
# The files that `save_to_disk` writes for several splits, and for one.
SAVED_FILES = ("dataset_dict.json", "state.json")


class HubSource(Labelled):
    """One split of a hub data set; its images stay encoded.

    Args:
        dataset: a `datasets.Dataset`.
        name: of the split, for messages.
        train: the labels of the training split, whose classes number labels that are texts.

    Raises:
        UserError: when it has no image column or no rows.
    """

    def __init__(self, dataset: Any, name: str, *, train: GivenLabels | None = None) -> None:
        import datasets

        features = dataset.features
        image = next((column for column, kind in features.items() if isinstance(kind, datasets.Image)), None)
        image = image or next((column for column in IMAGE_COLUMNS if column in features), None)
        if image is None:
            raise UserError(f"{name} has no image column (found: {', '.join(features)}); choose a data set of images")
        if not len(dataset):
            raise UserError(f"no images in {name}: it has no rows; choose a data set of images")
        self._column, self._name = image, name
        self._images = dataset.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        labels = (column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel))
        label = next((column for column in LABEL_COLUMNS if column in features), next(labels, None))
        self._label = label
        self._labels = None if label is None else dataset.select_columns([label]).with_format("arrow")
        # A list of classes has its names one level down.
        named = getattr(features[label], "feature", features[label]) if label is not None else None
        self._class_names = tuple(getattr(named, "names", None) or ())
        self.given = GivenLabels(self._read_labels, where=name, train=train)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> bytes:
        value = self._images[index][self._column]
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise OSError("no image in this row")
        return read_file(value["path"]) if value["bytes"] is None else bytes(value["bytes"])

    def name(self, index: int) -> str:
        return f"{self._name}:{index}"

    def _read_labels(self) -> PlainLabels:
        if self._labels is None:
            return PlainLabels(null_labels(len(self)))
        column = self._labels[:][self._label]
        return PlainLabels(to_plain(column, f"column '{self._label}' of {self._name}"), self._class_names)


def open_hub(spec: str) -> dict[str, HubSource]:
    """The splits of `hf://owner/name`, `hf://owner/name/configuration` or `hf:///path/on/disk`.

    Raises:
        UserError: when the library is missing, or it cannot load the data, or finds no images in them.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{spec} needs the datasets library; pip install 'openmae[hf]'") from error
    place = spec.removeprefix(SCHEME)
    try:
        if Path(place).is_absolute() and any((Path(place) / name).is_file() for name in SAVED_FILES):
            loaded = datasets.load_from_disk(place)
        elif Path(place).is_absolute():
            loaded = datasets.load_dataset(place)
        else:
            owner_and_name, configuration = "/".join(place.split("/")[:2]), place.split("/")[2:]
            loaded = datasets.load_dataset(owner_and_name, *configuration[:1])
    except Exception as error:  # the library, its file readers and its network client each have their own
        raise UserError(f"{spec} cannot be loaded ({one_line(error)}); check its name and your access to it") from error
    if not isinstance(loaded, dict):
        return {"train": HubSource(loaded, spec)}
    names = name_splits(own for own in loaded if len(loaded[own]) or own in SPLIT_OF)
    own_names = {split: own for own, split in names.items()}
    others = [split for split in own_names if not is_held_out(split)]
    if "train" not in own_names and len(others) == 1:
        own_names["train"] = own_names.pop(others[0])
    opened: dict[str, HubSource] = {}
    for split, own in in_order(own_names).items():
        first = next(iter(opened.values()), None)
        train = None if first is None else first.given
        opened[split] = HubSource(loaded[own], f"{spec}/{own}", train=train)
    return opened
