"""Read names: whether a file is an image, and what a column holds."""

import functools

from PIL import Image

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
