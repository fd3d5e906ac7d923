"""Where images come from: a Source is a sized list of (bytes, label, name).

`open_data` understands every form of `--data`.
"""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

BUNDLED = "fashion-mnist"
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation")
UNLABELLED = -1
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target")
# Extensions that Pillow lists but cannot decode by itself.
NO_IMAGES = (".bufr", ".emf", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".palm", ".pdf", ".ps", ".wmf")


class Source(Protocol):
    """A sized list of encoded images. `labels` [N] int64 index `classes`; -1 where there is none."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int: ...
    def read(self, index: int) -> bytes:
        """The encoded bytes of one image."""
        ...

    def name(self, index: int) -> str:
        """What people call this image: its path, or its place in a file."""
        ...


class Data(NamedTuple):
    """A data set: what to train on, and what to measure on if it has a test split."""

    train: Source
    test: Source | None


class FolderSource:
    """Image files below a folder, at any depth, in the order of their names."""

    def __init__(self, root: Path, files: Sequence[Path], classes: tuple[str, ...] = ()) -> None:
        self.root = root
        self.files = files
        self.classes = classes
        number = {name: index for index, name in enumerate(classes)}
        self.labels = np.array(
            [number.get(file.relative_to(root).parts[0], UNLABELLED) for file in files], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        return self.files[index].read_bytes()

    def name(self, index: int) -> str:
        return str(self.files[index].relative_to(self.root))


class ParquetSource:
    """Parquet files in Hugging Face layout: a struct column with `bytes` (and `path`), and maybe a label column."""

    def __init__(self, files: Sequence[Path]) -> None:
        tables = [self._read_table(file) for file in files]
        table = pa.concat_tables(tables)
        if not len(table):
            raise ValueError(f"no images in {files[0]}: it has no rows; give Parquet files that hold images")
        self._bytes = table.column("bytes")
        self._files = files
        self._first_rows = np.cumsum([0, *(len(part) for part in tables)])
        self.labels = table.column("label").to_numpy().astype(np.int64)
        self.classes = self._class_names(tables, int(self.labels.max()), files[0])

    @staticmethod
    def _read_table(file: Path) -> pa.Table:
        """The columns `bytes` and `label` of one file, checked."""
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{file} is not a readable Parquet file ({error}); check that it was copied whole"
            ) from error
        image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
        layout = schema.field(image).type if image else pa.null()
        embedded = pa.types.is_struct(layout) and layout.get_field_index("bytes") >= 0
        if not embedded or "binary" not in str(layout.field("bytes").type):
            raise ValueError(
                f"{file} has no image column with embedded bytes (found: {', '.join(schema.names)}); write it in "
                "Hugging Face layout, with a column 'image' of {bytes, path} and optionally 'label'"
            )
        label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        table = pq.read_table(file, columns=[image, label] if label else [image])
        # Some writers (Polars among them) store the bytes as large_binary or binary_view.
        chunks = [chunk.field("bytes").cast(pa.large_binary()) for chunk in table.column(image).chunks]
        data = pa.chunked_array(chunks, type=pa.large_binary())
        try:
            labels = table.column(label).cast(pa.int64()) if label else pa.nulls(len(table), pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"{file} has {schema.field(label).type} labels in its column '{label}'; write class numbers, 0 … "
                "classes-1, or drop the column"
            ) from error
        labels = labels.fill_null(UNLABELLED)
        return pa.table(
            {"bytes": data, "label": labels}, metadata={**(schema.metadata or {}), b"label": (label or "").encode()}
        )

    @staticmethod
    def _class_names(tables: Sequence[pa.Table], highest: int, file: Path) -> tuple[str, ...]:
        """The names that the files' Hugging Face metadata give, else the numbers up to the highest label."""
        named: set[tuple[str, ...]] = set()
        for table in tables:
            metadata = table.schema.metadata
            try:
                names = json.loads(metadata[b"huggingface"])["info"]["features"][metadata[b"label"].decode()]["names"]
                named.add(tuple(str(name) for name in names))
            except (KeyError, TypeError, ValueError):  # no such metadata, or none about classes
                continue
        if len(named) > 1:
            raise ValueError(f"the Parquet files beside {file} differ in the names of their classes; pass one of them")
        classes = named.pop() if named else tuple(str(number) for number in range(highest + 1))
        if highest >= len(classes):
            raise ValueError(
                f"{file} has label {highest} but names only {len(classes)} classes; repair its labels or its metadata"
            )
        return classes

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        data: bytes | None = self._bytes[index].as_py()
        if data is None:
            raise OSError("no embedded bytes in this row")
        return data

    def name(self, index: int) -> str:
        file = int(np.searchsorted(self._first_rows, index, side="right")) - 1
        return f"{self._files[file].name}:{index - self._first_rows[file]}"


class Subset:
    """Some images of another source, by index."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices
        self.labels = source.labels[indices]
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))


def open_data(spec: str) -> Data:
    """Open what `--data` names.

    - a folder of images at any depth: the first folder level is the class where there are several; `train/` and `test/`
      or `val/` are splits;
    - a `.parquet` file, a folder of them or a glob, in Hugging Face layout; files whose names begin with `train` and
      `test` or `val` are splits;
    - `fashion-mnist`, 12,000 images that ship with the package.

    Raises:
        ValueError: when nothing usable is there; the message says what was found.
    """
    if spec == BUNDLED:
        return _open_parquet(sorted((Path(__file__).parent / "fashion_mnist").glob("*.parquet")))
    path = Path(spec).expanduser()
    if glob.has_magic(spec) and not path.exists():
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not files or any(file.suffix != ".parquet" for file in files):
            raise ValueError(
                f"the pattern {spec} matches no Parquet files; give a pattern such as 'data/train-*.parquet'"
            )
        return _open_parquet(files)
    if not path.exists():
        raise ValueError(f"there is no {spec}; give a folder of images, a Parquet file, or '{BUNDLED}'")
    if path.is_file():
        if path.suffix == ".parquet":
            return Data(train=ParquetSource([path]), test=None)
        raise ValueError(f"{spec} is a single file; give the folder that holds the images, or a .parquet file")
    parquet = sorted(path.rglob("*.parquet"))
    return _open_parquet(parquet) if parquet else _open_folder(path)


def _open_parquet(files: Sequence[Path]) -> Data:
    def of(names: tuple[str, ...]) -> list[Path]:
        return [file for file in files if _split(file) in names]

    test = of(TEST_NAMES)
    train = of(TRAIN_NAMES) or [file for file in files if file not in test]
    if not train:
        return Data(train=ParquetSource(test), test=None)
    return Data(train=ParquetSource(train), test=ParquetSource(test) if test else None)


def _split(file: Path) -> str:
    """Which split a Parquet file belongs to: its own name decides, then its folder's."""
    own = (name for name in TRAIN_NAMES + TEST_NAMES if file.stem.lower().startswith(name))
    return next(own, file.parent.name.lower())


def _open_folder(root: Path) -> Data:
    children = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
    train = next((children[name] for name in TRAIN_NAMES if name in children), None)
    test = next((children[name] for name in TEST_NAMES if name in children), None)
    if train is None:
        return Data(train=_folder_source(root), test=None)
    train_files = _image_files(train)
    classes = _folder_classes(train, train_files)
    if test is None and not classes and (whole := _folder_source(root)).classes:
        return Data(train=whole, test=None)  # pictures of trains, beside those of cars and planes
    source = FolderSource(train, train_files, classes)
    return Data(train=source, test=FolderSource(test, _image_files(test), classes) if test else None)


def _folder_source(root: Path) -> FolderSource:
    files = _image_files(root)
    return FolderSource(root, files, _folder_classes(root, files))


def _image_files(root: Path) -> list[Path]:
    extensions = {".npy", *map(str.lower, Image.registered_extensions())}.difference(NO_IMAGES)
    entries = sorted(path for path in root.rglob("*") if not path.is_dir() and not _is_hidden(path, root))
    files = [path for path in entries if path.suffix.lower() in extensions]
    if not files:
        found = f"{len(entries)} files, none of them an image" if entries else "it is empty"
        raise ValueError(f"no images in {root}: {found}; point --data at a folder that holds JPEG, PNG or other images")
    return files


def _is_hidden(path: Path, root: Path) -> bool:
    """Thumbnails, and the "._photo.jpg" that macOS writes beside every photo on a foreign disk."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _folder_classes(root: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """The first folder level, when every image lies in a folder and there are at least two of them."""
    parts = [file.relative_to(root).parts for file in files]
    folders = sorted({part[0] for part in parts if len(part) > 1})
    return tuple(folders) if len(folders) > 1 and all(len(part) > 1 for part in parts) else ()
