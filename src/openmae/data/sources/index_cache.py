"""The index of a large data set, cached as a table in the user's cache folder, so that the next start is quick.

The cache is never needed: an index that is missing, damaged, foreign or cannot be written only costs time.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openmae.errors import one_line
from openmae.files import replacing
from openmae.reporter import say

# With fewer images, listing them again is as quick as checking whether they changed.
MIN_IMAGES = 10_000
SUBJECT = b"openmae.index"


def index_file(subject: str) -> Path:
    """Where the table about `subject` lies: below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()  # noqa: PTH117  # "" is relative
    return folder / "openmae" / "index" / f"{hashlib.sha256(_key(subject)).hexdigest()[:32]}.parquet"


def read_index(subject: str, schema: pa.Schema) -> pa.Table | None:
    """The stored table about `subject`, or None. Logs a message when there is one that cannot be used."""
    try:
        file = index_file(subject)
        with pq.ParquetFile(file) as stored:
            table = stored.read(use_threads=False)
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # no such table, or no home folder
        return None
    except (pa.ArrowException, OSError) as error:
        say(f"the index in {file} cannot be read ({one_line(error)}); looking at the data again")
        return None
    if (table.schema.metadata or {}).get(SUBJECT) != _key(subject) or not table.schema.equals(schema):
        say(f"{file} is no index of these data; looking at the data again")
        return None
    return table


def write_index(subject: str, table: pa.Table) -> None:
    """Store a table about `subject`, whole or not at all; a cache folder that cannot be written is no error."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), SUBJECT: _key(subject)})
    with contextlib.suppress(OSError, RuntimeError):
        file = index_file(subject)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, sync=False, contested=True) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def _key(subject: str) -> bytes:
    return subject.encode("utf-8", "surrogateescape")
