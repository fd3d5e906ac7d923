"""Where images come from: a Source is a sized list of (bytes, name), with targets.

`open_data` understands every form of `--data`; each form has a file of its own beside this one.
"""

from collections.abc import Sequence

from openmae.data.sources.data_set import Data, LeftOut, Source, Subset, classes_if_any
from openmae.data.sources.folders import FolderSource
from openmae.data.sources.hub import HubSource
from openmae.data.sources.joined import JoinedSource
from openmae.data.sources.label_files import label_from_file
from openmae.data.sources.labels import UNLABELLED
from openmae.data.sources.opening import open_place
from openmae.data.sources.parquet import ParquetSource
from openmae.data.sources.several import join_places, require_apart
from openmae.data.sources.shards import ShardSource
from openmae.errors import UserError

__all__ = [
    "UNLABELLED",
    "Data",
    "FolderSource",
    "HubSource",
    "JoinedSource",
    "LeftOut",
    "ParquetSource",
    "ShardSource",
    "Source",
    "Subset",
    "classes_if_any",
    "open_data",
]


def open_data(spec: str | Sequence[str], *, labels: str | None = None) -> Data:
    """Open what `--data` names: one place, or several that are one data set.

    - a folder of images at any depth: the first folder level is the class where there are several;
    - a `.parquet` file in Hugging Face layout, a WebDataset `.tar` shard, or several: a folder of them, a glob, or
      `shard-{000..012}.tar`;
    - a glob of images, or a text or CSV file that lists images;
    - any of these behind a URL that fsspec understands: `s3://`, `gs://`, `https://`;
    - `hf://owner/name` or `hf:///path/on/disk`;
    - `fashion-mnist`, 12,000 images that ship with the package.

    `split_names` says which names of folders and files make them splits. The splits of several places are joined by
    name, and so are their classes; an image then has its place before its name.

    Args:
        spec: one of these, or several.
        labels: a CSV file (path and label, or path and a column for each label) whose labels replace those of the data.

    Raises:
        UserError: when nothing usable is there; the message says what was found.
    """
    places = [spec] if isinstance(spec, str) else list(spec)
    if not places:
        raise UserError("no data were given; give a folder of images, a Parquet file, tar shards, or 'fashion-mnist'")
    if len(places) > 1:
        require_apart(places)
    opened = {place: open_place(place) for place in places}
    if labels is not None:
        sources = [(source, place) for place, data in opened.items() for source in data.splits.values()]
        label_from_file([source for source, _ in sources], labels, folders=[place for _, place in sources])
    return opened[places[0]] if len(places) == 1 else join_places(opened)
