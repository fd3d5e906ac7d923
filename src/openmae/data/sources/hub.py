"""Data sets of the Hugging Face hub, or in its formats on disk, through the `datasets` library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from openmae.data.sources.label_values import plain_labels
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.naming import IMAGE_COLUMNS, LABEL_COLUMNS, TEST_NAMES, TRAIN_NAMES
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
        UserError: when it has no image column or no usable labels.
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
        values = pa.chunked_array([pa.nulls(len(dataset), pa.int64())])
        if label is not None:
            values = dataset.select_columns([label]).with_format("arrow")[:][label]
        try:
            values = plain_labels(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"{name} has {values.type} labels in its column '{label}'; choose a data set with classes, lists of "
                "labels, or numbers"
            ) from error
        # A list of classes has its names one level down.
        named = getattr(features[label], "feature", features[label]) if label is not None else None
        self.given = GivenLabels(values, where=name, names=tuple(getattr(named, "names", None) or ()), train=train)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> bytes:
        value = self._images[index][self._column]
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise OSError("no image in this row")
        return read_file(value["path"]) if value["bytes"] is None else bytes(value["bytes"])

    def name(self, index: int) -> str:
        return f"{self._name}:{index}"


def open_hub(spec: str) -> tuple[HubSource, HubSource | None]:
    """Open `hf://owner/name`, `hf://owner/name/configuration` or `hf:///path/on/disk`.

    Raises:
        UserError: when the library is missing, or it cannot load the data, or finds no images or splits in them.
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
        return HubSource(loaded, spec), None
    train, test = _splits(loaded, spec)
    training = HubSource(loaded[train], f"{spec}/{train}")
    tests = [HubSource(loaded[name], f"{spec}/{name}", train=training.given) for name in test]
    labelled = (source for source in tests if source.given.any())  # hub test splits often keep theirs secret
    return training, next(labelled, tests[0] if tests else None)


def _splits(names: Sequence[str] | dict[str, Any], spec: str) -> tuple[str, list[str]]:
    """The split to train on, and those that can be evaluated on, the best first."""
    test = [name for name in TEST_NAMES if name in names]
    train = [name for name in TRAIN_NAMES if name in names] or [name for name in names if name not in test]
    if not train:
        return test[0], []
    if len(train) > 1 and train[0] not in TRAIN_NAMES:
        raise UserError(f"{spec} has the splits {', '.join(names)}, none called train; save the one you want to disk")
    return train[0], test
