"""Build the small Fashion-MNIST data set that ships inside the ``openmae`` package.

Run it from the repository root, on Debian or Ubuntu:

    apt-get install dataset-fashion-mnist && python scripts/build_fashion_mnist.py

It writes ``train.parquet`` (10,000 images) and ``test.parquet`` (2,000 images) in the layout of the Hugging Face
``datasets`` library: an ``image`` column of PNG bytes and an integer ``label`` column.

Why these counts: the first 1,000 training and the first 200 test images of each of the ten classes keep the classes
balanced, so that chance level is 10 %, and are enough for a pre-training run and its probes to tell a good encoder from
a bad one, while the two files stay small enough (6 MB together at most) to be part of the wheel. The source's own split
is kept, so no test image is ever in the training file.

The same library versions give the same bytes: nothing is drawn at random. Other versions of Pillow, zlib or PyArrow may
give other bytes for the same pixels.
"""

import argparse
import gzip
import hashlib
import io
import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Bytes = npt.NDArray[np.uint8]

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SIZE = 28
TRAIN_PER_CLASS = 1_000
TEST_PER_CLASS = 200
MAX_TOTAL_BYTES = 6_000_000

IDX_UNSIGNED_BYTE = 0x08

# ``datasets`` and the Hub's viewer read the column types from this key; without it ``image`` is a plain struct to them.
HUGGINGFACE_METADATA = json.dumps(
    {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"names": list(CLASS_NAMES), "_type": "ClassLabel"},
            }
        }
    }
)
SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("label", pa.int64()),
    ],
    metadata={"huggingface": HUGGINGFACE_METADATA},
)


def read_idx(path: Path, item_shape: tuple[int, ...]) -> Bytes:
    """Read a gzipped idx file of unsigned bytes whose items have ``item_shape``."""
    if not path.is_file():
        raise SystemExit(f"{path}: no such file. Run 'apt-get install dataset-fashion-mnist' or pass --source.")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise SystemExit(f"{path}: cannot be read as gzip: {error}") from error

    header = struct.Struct(f">HBB{1 + len(item_shape)}I")
    if len(content) < header.size:
        raise SystemExit(f"{path}: {len(content)} bytes, too short for an idx header of {header.size} bytes.")
    zeros, kind, rank, *shape = header.unpack_from(content)
    if (zeros, kind, rank) != (0, IDX_UNSIGNED_BYTE, 1 + len(item_shape)):
        raise SystemExit(f"{path}: not an idx file of unsigned bytes in {1 + len(item_shape)} dimension(s).")
    if tuple(shape[1:]) != item_shape:
        raise SystemExit(f"{path}: items of shape {tuple(shape[1:])}, expected {item_shape}.")
    if len(content) != header.size + math.prod(shape):
        raise SystemExit(
            f"{path}: {len(content) - header.size} bytes of data, but its header announces {math.prod(shape)}."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header.size).reshape(shape)


def read_split(source: Path, prefix: str) -> tuple[Bytes, Bytes]:
    """Read the images and labels of one split; ``prefix`` is ``train`` or ``t10k``."""
    images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", (IMAGE_SIZE, IMAGE_SIZE))
    labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", ())
    if len(images) != len(labels):
        raise SystemExit(f"{source}: {len(images)} images but {len(labels)} labels for '{prefix}'.")
    return images, labels


def first_of_each_class(labels: Bytes, per_class: int) -> npt.NDArray[np.intp]:
    """Return, in file order, the indices of the first ``per_class`` items of every class."""
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASS_NAMES))]
    for name, indices in zip(CLASS_NAMES, chosen, strict=True):
        if len(indices) < per_class:
            raise SystemExit(f"Class '{name}' has {len(indices)} images, {per_class} are needed.")
    return np.sort(np.concatenate(chosen))


def encode_png(image: Bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_split(path: Path, images: Bytes, labels: Bytes) -> None:
    rows = [
        {"image": {"bytes": encode_png(image), "path": None}, "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    # The PNG data is already compressed, but Zstandard still folds the header and trailer that every PNG repeats.
    # Every image is unique, so a dictionary and statistics (an image as minimum and maximum) would only add bytes.
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=["label"],
        write_statistics=["label"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the Fashion-MNIST subset bundled with openmae.")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four gzipped idx files (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("src/openmae/data/fashion_mnist"),
        help="folder to write the Parquet files to (default: %(default)s)",
    )
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    total = 0
    for name, prefix, per_class in (("train", "train", TRAIN_PER_CLASS), ("test", "t10k", TEST_PER_CLASS)):
        images, labels = read_split(args.source, prefix)
        indices = first_of_each_class(labels, per_class)
        path = args.out / f"{name}.parquet"
        write_split(path, images[indices], labels[indices])
        content = path.read_bytes()
        total += len(content)
        print(f"{path}: {len(indices)} images, {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    print(f"Together {total} bytes.")
    if total > MAX_TOTAL_BYTES:
        raise SystemExit(f"The files are larger than the {MAX_TOTAL_BYTES} bytes allowed in the wheel.")


if __name__ == "__main__":
    main()
