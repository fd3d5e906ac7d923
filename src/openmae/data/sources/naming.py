"""Read names: whether a file is an image, which split it belongs to, and what a column holds."""

import functools
from collections.abc import Sequence

from PIL import Image

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation")
# The names of columns in Hugging Face layout.
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target")
# Extensions of images that Pillow does not list.
MORE_IMAGES = (".npy",)
# Extensions that Pillow lists but cannot decode by itself.
NO_IMAGES = (".bufr", ".emf", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".palm", ".pdf", ".ps", ".wmf")


@functools.cache
def image_extensions() -> frozenset[str]:
    """The extensions of images and arrays, in lower case and with their dot."""
    registered = (extension.lower() for extension in Image.registered_extensions())
    return frozenset((*registered, *MORE_IMAGES)).difference(NO_IMAGES)


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image.

    >>> is_image("holidays/a.b.JPG"), is_image("notes.txt"), is_image("jpg")
    (True, False, False)
    """
    stem, dot, extension = name.rpartition(".")
    return bool(stem) and f"{dot}{extension.lower()}" in image_extensions()


def by_split(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide containers of images into a training and a test split by their names.

    A container whose name says neither is for training where no name says so, and left out where one does.

    >>> by_split(["a/train-0.tar", "a/test-0.tar", "a/extra.tar"])
    (['a/train-0.tar'], ['a/test-0.tar'])
    >>> by_split(["part-0.parquet", "part-1.parquet"])
    (['part-0.parquet', 'part-1.parquet'], [])
    >>> by_split(["test.parquet"])
    (['test.parquet'], [])
    """
    test = [file for file in files if _split(file) in TEST_NAMES]
    train = [file for file in files if _split(file) in TRAIN_NAMES] or [file for file in files if file not in test]
    return (train, test) if train else (test, [])


def _split(file: str) -> str:
    """Which split a container belongs to: its own name decides, then its folder's."""
    folder, _, own = file.replace("\\", "/").lower().rpartition("/")
    return next((name for name in TRAIN_NAMES + TEST_NAMES if own.startswith(name)), folder.rpartition("/")[2])
