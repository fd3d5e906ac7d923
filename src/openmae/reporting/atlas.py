"""`openmae embed --atlas`: the embeddings in embedding-atlas, with the images themselves."""

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from openmae.data.batches import SeededImages
from openmae.errors import UserError
from openmae.evaluation.embedding import Embedded
from openmae.evaluation.views import neighbours, projection
from openmae.evaluation.views.projection import Projection
from openmae.reporter import ProgressView, say
from openmae.reporting.explore.drawing import as_colours
from openmae.reporting.serving import serve

USUAL_PORT = 5055
THUMBNAIL = 96
"""Pixels of the longer side; smaller images stay as they are."""
NEAREST = 15
MOST_FOR_NEIGHBOURS = 100_000
IMAGE, X, Y = "image", "projection_x", "projection_y"
ROW, NEIGHBOURS = "__row_index__", "__neighbors"
"""The page shows no column whose name begins so."""


def require_atlas() -> None:
    """Raise UserError when embedding-atlas is not installed: before the images are encoded, not after."""
    try:
        import embedding_atlas  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--atlas needs embedding-atlas, which is not installed; run `pip install 'openmae[atlas]'`, or leave "
            "--atlas out: the file is the same"
        ) from error


def open_atlas(embedded: Embedded, *, port: int | None = None) -> None:
    """Serve the embeddings until Ctrl-C.

    Raises:
        UserError: when embedding-atlas is not installed, or the port is taken.
    """
    require_atlas()
    say(f"{embedded.result['images']:,} images written to {embedded.result['out']}")
    app = build_atlas(atlas_table(embedded))
    serve(app, title=f"atlas of {embedded.result['out']}", port=port, usual_port=USUAL_PORT)


def atlas_table(embedded: Embedded, *, method: Projection = "umap") -> pa.Table:
    """The table of the embeddings with a place in the plane, a thumbnail and the nearest rows; without the vectors."""
    table = embedded.table
    features = vectors(table, "mean")
    say(f"laying {len(table):,} images out in two dimensions")
    points = projection(features, method)
    # The class says what the number of the label says; a column of nothing says nothing.
    told = [name for name in ("path", "class", "split") if table[name].null_count < len(table)]
    columns = {
        IMAGE: pa.array(list(_thumbnails(embedded.parts, len(table))), type=_IMAGE_TYPE),
        **{name: table[name] for name in told},
        X: pa.array(points[:, 0]),
        Y: pa.array(points[:, 1]),
        ROW: pa.array(range(len(table)), type=pa.int64()),
    }
    # Every image beside every other: minutes for more than that.
    if 1 < len(table) <= MOST_FOR_NEIGHBOURS:
        columns[NEIGHBOURS] = _nearest(features)
    return pa.table(columns)


_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def build_atlas(table: pa.Table) -> Any:
    """The page as an ASGI application."""
    import embedding_atlas
    from embedding_atlas.data_source import DataSource
    from embedding_atlas.options import make_embedding_atlas_props
    from embedding_atlas.server import make_server

    logging.getLogger("embedding-atlas").setLevel(logging.ERROR)
    props = make_embedding_atlas_props(
        row_id=ROW, x=X, y=Y, image=IMAGE, neighbors=NEIGHBOURS if NEIGHBOURS in table.column_names else None
    )
    frame = table.to_pandas()
    if "class" in table.column_names:  # the colour of the points at first; the page has a menu for others
        embedding = {**props["data"]["projection"], "image": IMAGE, "category": "class"}
        if NEIGHBOURS in table.column_names:
            embedding["neighbors"] = NEIGHBOURS
        props["defaultChartsConfig"] = {"embedding": {"data": embedding}}
    # What the user arranges in the page is remembered for the same images with the same features.
    identifier = hashlib.sha256(np.ascontiguousarray(frame[[X, Y]].to_numpy()).tobytes()).hexdigest()
    static = Path(embedding_atlas.__file__).parent / "static"
    return make_server(
        DataSource(identifier, frame, {"props": props}), static_path=str(static), duckdb_uri="server", cors=False
    )


def vectors(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column of vectors as one array [N, D]."""
    column = table[name].combine_chunks()
    flat: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), -1)


def _nearest(features: NDArray[np.float32]) -> pa.Array:
    """The nearest rows of each row, without itself, and their cosine distances."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    rows = []
    for row, found in enumerate(neighbours(features, features, NEAREST + 1)):
        others = [int(other) for other in found if other != row][:NEAREST]
        rows.append({"ids": others, "distances": (1 - unit[others] @ unit[row]).tolist()})
    return pa.array(rows)


def _thumbnails(parts: Sequence[SeededImages], total: int) -> Iterator[dict[str, Any]]:
    """The images as the network takes them, small, as PNG or JPEG; None for one that cannot be read any more."""
    done = 0
    with ProgressView("thumbnails", total) as view:
        for part in parts:
            for index in range(len(part)):
                views = part[0, index].views
                yield {"bytes": _encoded(as_colours(views[0])) if views else None, "path": None}
                done += 1
                view.update(done, "thumbnails", f"{done:,} of {total:,} images")


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(picture)
    small = max(image.size) <= THUMBNAIL
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    if small:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=85)
    return file.getvalue()
