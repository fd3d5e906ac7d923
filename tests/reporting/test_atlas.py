"""The atlas holds every row of the embeddings with its own image, and serves them to this machine alone."""

import importlib
import io
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openmae.evaluation.embedding import Embedded, embed
from openmae.reporting.atlas import atlas_table, build_atlas, vectors
from openmae.reporting.serving import serving
from openmae.verbs import embed as embed_verb


@pytest.fixture
def embedded(tiny_run: Path, tmp_path: Path) -> Embedded:
    """The embeddings of a few images of two sizes, one of which cannot be read."""
    folder = tmp_path / "images" / "train"
    for index in range(8):
        pixels = np.full((28, 28), 30 * index, dtype=np.uint8)
        pixels[: 3 * index] += 20
        file = folder / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    (folder / "class0" / "2.png").write_bytes(b"no image")
    kept: list[Embedded] = []
    result = embed(tiny_run, str(tmp_path / "images"), tmp_path / "features.parquet", then=kept.append)
    assert result["images"] == 7
    return kept[0]


def test_each_row_has_its_own_image_and_its_nearest_rows(embedded: Embedded, tmp_path: Path) -> None:
    table = atlas_table(embedded, method="pca")
    assert table.num_rows == 7
    assert {"mean", "cls"}.isdisjoint(table.column_names)
    assert table["path"].to_pylist() == pq.read_table(tmp_path / "features.parquet")["path"].to_pylist()
    features = vectors(embedded.table, "mean")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for row, values in enumerate(table.to_pylist()):
        number = int(Path(values["path"]).stem)
        with Image.open(io.BytesIO(values["image"]["bytes"])) as picture:
            assert picture.getpixel((5, 27)) == (30 * number,) * 3
        similarity = unit @ unit[row]
        ids = values["__neighbors"]["ids"]
        assert sorted([*ids, row]) == list(range(7))
        assert values["__neighbors"]["distances"] == pytest.approx((1 - similarity[ids]).tolist(), abs=1e-6)
        assert (np.diff(values["__neighbors"]["distances"]) > -1e-6).all()


def test_a_large_image_becomes_small(embedded: Embedded) -> None:
    from openmae.reporting.atlas import _encoded

    with Image.open(io.BytesIO(_encoded(np.zeros((300, 200, 3), dtype=np.uint8)))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 96))


@pytest.mark.filterwarnings("ignore")
def test_the_atlas_serves_the_rows(embedded: Embedded) -> None:
    pytest.importorskip("embedding_atlas", reason="needs the extra atlas")
    with serving(build_atlas(atlas_table(embedded, method="pca"))) as address:

        def get(path: str) -> bytes:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                address + path, timeout=30
            ) as answer:
                return bytes(answer.read())

        assert b"<html" in get("/")
        data = json.loads(get("/data/metadata.json"))["props"]["data"]
        assert (data["image"], data["id"], data["neighbors"]) == ("image", "__row_index__", "__neighbors")
        assert data["projection"] == {"x": "projection_x", "y": "projection_y"}
        query = urllib.parse.quote(json.dumps({"type": "json", "sql": "SELECT count(*) AS n FROM dataset"}))
        assert json.loads(get(f"/data/query?query={query}")) == [{"n": 7}]


def test_without_the_package_its_extra_is_named_before_any_work(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedding_atlas", None)
    with pytest.raises(ValueError, match=r"pip install 'openmae\[atlas\]'"):
        embed_verb(weights=tiny_run, data=tmp_path, out=tmp_path / "f.parquet", atlas=True)


def test_embed_opens_the_atlas_once_the_file_is_written(
    tiny_run: Path, small_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas, out, opened = importlib.import_module("openmae.reporting.atlas"), tmp_path / "f.parquet", []

    def look(embedded: Embedded, *, port: int | None) -> None:
        opened.append((pq.read_table(out).num_rows, port, sum(map(len, embedded.parts))))

    monkeypatch.setattr(atlas, "require_atlas", lambda: None)
    monkeypatch.setattr(atlas, "open_atlas", look)
    embed_verb(weights=tiny_run, data=small_fashion, out=out, atlas=True, port=5060)
    assert opened == [(160, 5060, 160)]
    embed_verb(weights=tiny_run, data=small_fashion, out=out)
    assert len(opened) == 1
