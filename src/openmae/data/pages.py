"""Pages of TIFF files as images of their own, for `--pages images`."""

import io
from dataclasses import replace

import numpy as np
import tifffile
from numpy.typing import NDArray

from openmae.data.decoding import BadImage, PixelFormat, Reading, errors_as_bad_image
from openmae.data.decoding.arrays import encode_array
from openmae.data.decoding.pages import same_pages
from openmae.data.decoding.tiff import TIFF_SIGNATURES, open_tiff
from openmae.data.sources import Data, Source
from openmae.data.sources.joined import labels_of
from openmae.data.sources.labels import Labelled
from openmae.data.sources.names_and_sizes import sizes_of
from openmae.reporter import ProgressView, say


class PageSource(Labelled):
    """The pages of another source's files, one image each; a page has the label of its file.

    Args:
        files: the source.
        reading: how the pages are read.
        places: [N, 2], the file and the page of each image; page -1 is a file as it is.
    """

    def __init__(self, files: Source, reading: Reading, places: NDArray[np.int64]) -> None:
        self.files = files
        self.reading = reading
        self.places = places
        self.given = labels_of(files).at(places[:, 0])

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> bytes:
        """The page as an .npy file, without alpha.

        Raises:
            OSError: when its file cannot be read, or the page in it cannot be decoded.
        """
        file, page = map(int, self.places[index])
        data = self.files.read(file)
        if page < 0:
            return data
        try:
            with errors_as_bad_image():
                opened = open_tiff(data, self.reading, page=page)
            return encode_array(opened.decode(PixelFormat(opened.colours, opened.stored.kind)))
        except BadImage as error:
            raise OSError(0, str(error)) from error

    def name(self, index: int) -> str:
        """The name of the file, and the number of the page, counted from 1."""
        file, page = map(int, self.places[index])
        return self.files.name(file) if page < 0 else f"{self.files.name(file)}#{page + 1}"

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of the file that each page lies in, [N]; -1 where that is unknown."""
        return sizes_of(self.files)[self.places[:, 0]]


def as_images(data: Data, reading: Reading) -> Data:
    """The data set with each page of its TIFF files as an image, where `reading` wants that; else as it is.

    The header of every file is read for it.
    """
    if reading.pages != "images":
        return data
    splits = {name: pages_of(source, reading) for name, source in data.splits.items()}
    files, images = (sum(map(len, sources.values())) for sources in (data.splits, splits))
    say(f"{files:,} files hold {images:,} pages, each of which is an image")
    return replace(data, splits=splits)


def pages_of(source: Source, reading: Reading) -> Source:
    """One split, likewise."""
    if reading.pages != "images":
        return source
    places = []
    with ProgressView("pages", len(source)) as view:
        for file in range(len(source)):
            pages = _pages(source, file)
            places += [(file, page) for page in (pages if len(pages) > 1 else [-1])]
            view.update(file + 1, "pages", f"{len(places):,} pages")
    return PageSource(source, reading, np.array(places, dtype=np.int64).reshape(-1, 2))


def _pages(source: Source, file: int) -> list[int]:
    """The pages of a file; none of one that cannot be read, which is a bad image in a moment."""
    try:
        data = source.read(file)
        if data[:4] not in TIFF_SIGNATURES:
            return []
        with errors_as_bad_image(), tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
            return same_pages(tiff)
    except (BadImage, OSError):
        return []
