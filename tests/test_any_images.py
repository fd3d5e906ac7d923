"""Images of every kind go through pre-training, features and reconstruction by flags alone."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from openmae.cli import main
from openmae.data.transforms import normalise_pixels
from openmae.training import pretraining

TINY = [
    "pretrain",
    "vit-b16-800e",
    "--width",
    "32",
    "--depth",
    "2",
    "--heads",
    "2",
    "--decoder-width",
    "16",
    "--decoder-depth",
    "1",
    "--decoder-heads",
    "2",
    "--patch-size",
    "8",
    "--image-size",
    "32",
    "--epochs",
    "2",
    "--warmup-epochs",
    "0",
    "--batch-size",
    "8",
    "--workers",
    "0",
    "--log-every",
    "1",
]
IMAGES = 16


def of_size(image_size: str) -> list[str]:
    """The same command for images of another size."""
    place = TINY.index("--image-size") + 1
    return [*TINY[:place], image_size, *TINY[place + 1 :]]


def levels(index: int, channels: int, largest: int, shape: tuple[int, int] = (40, 48)) -> NDArray[np.int64]:
    """A ramp with many levels, another one for each image and channel."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    planes = [(rows * (3 + band) + columns * (5 + index)) % 211 / 211 * largest for band in range(channels)]
    return np.stack(planes, axis=2).astype(np.int64)


def png(pixels: NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8).squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def bands(folder: Path) -> Path:
    """A folder of TIFFs with 13 bands of 16 bits, in two classes."""
    for index in range(IMAGES):
        file = folder / "bands" / ("field" if index % 2 else "forest") / f"{index:02}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            file, levels(index, 13, 60000).astype(np.uint16), photometric="minisblack", planarconfig="contig"
        )
    return folder / "bands"


def grey(folder: Path) -> Path:
    """A flat folder of grey PNGs."""
    (folder / "grey").mkdir()
    for index in range(IMAGES):
        (folder / "grey" / f"{index}.png").write_bytes(png(levels(index, 1, 255)))
    return folder / "grey"


def shards(folder: Path) -> Path:
    """Two tar shards of colour images with labels."""
    (folder / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(folder / "shards" / f"train-{shard}.tar", "w") as archive:
            for index in range(shard * IMAGES // 2, (shard + 1) * IMAGES // 2):
                for name, data in ((f"{index}.png", png(levels(index, 3, 255))), (f"{index}.cls", b"%d" % (index % 2))):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return folder / "shards"


def parquet(folder: Path) -> Path:
    """A Parquet file of colour images with labels."""
    rows = [{"bytes": png(levels(index, 3, 255)), "path": None} for index in range(IMAGES)]
    pq.write_table(
        pa.table({"image": rows, "label": [index % 2 for index in range(IMAGES)]}), folder / "images.parquet"
    )
    return folder / "images.parquet"


@pytest.mark.parametrize(
    ("make", "channels", "kind"),
    [(bands, 13, "uint16"), (grey, 1, "uint8"), (shards, 3, "uint8"), (parquet, 3, "uint8")],
    ids=["13 bands of 16 bits", "grey", "tar shards", "Parquet"],
)
def test_every_kind_of_image_is_trained_on_embedded_and_drawn(
    make: Callable[[Path], Path],
    channels: int,
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, run = str(make(tmp_path)), tmp_path / "run"
    seen: list[torch.Tensor] = []

    def spy(images: torch.Tensor, *statistics: tuple[float, ...]) -> torch.Tensor:
        seen.append(normalise_pixels(images, *statistics))
        return seen[-1]

    monkeypatch.setattr(pretraining, "normalise_pixels", spy)
    assert main([*TINY, "--data", data, "--channels", str(channels), "--out", str(run), "--json"]) == 0
    assert np.isfinite(json.loads(capsys.readouterr().out)["loss"])

    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["channels"], recipe["pixel_type"]) == (channels, kind)
    batch = torch.cat(seen)
    assert batch.shape == (2 * IMAGES, channels, 32, 32)
    if channels != 3:  # measured: what the network sees is centred and scaled
        assert batch.mean(dim=(0, 2, 3)).abs().max() < 0.2
        assert batch.std(dim=(0, 2, 3)).numpy() == pytest.approx(1, abs=0.25)
    if kind == "uint16":
        assert all(len(np.unique(batch[:, band].numpy())) > 1000 for band in range(channels))

    out = tmp_path / "features.parquet"
    assert main(["embed", "--weights", str(run), "--data", data, "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert len(table) == IMAGES
    features = np.array(table["mean"].to_pylist())
    assert len(np.unique(features.round(5), axis=0)) == IMAGES
    if channels != 1:
        assert set(table["label"].to_pylist()) == {0, 1}

    picture = tmp_path / "picture.png"
    assert main(["reconstruct", "--weights", str(run), "--data", data, "--rows", "3", "--out", str(picture)]) == 0
    with Image.open(picture) as drawn:
        assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 100


def test_a_label_file_reaches_the_embeddings(tmp_path: Path) -> None:
    data, run, out = str(grey(tmp_path)), tmp_path / "run", tmp_path / "features.parquet"
    assert main([*TINY, "--data", data, "--channels", "1", "--out", str(run)]) == 0
    (tmp_path / "labels.csv").write_text("path,label\n0.png,cat\n1.png,dog\n")
    words = ["--weights", str(run), "--data", data, "--labels", str(tmp_path / "labels.csv"), "--out", str(out)]
    assert main(["embed", *words]) == 0
    table = pq.read_table(out)
    classes = dict(zip(table["path"].to_pylist(), table["class"].to_pylist(), strict=True))
    assert (classes["0.png"], classes["1.png"], classes["2.png"]) == ("cat", "dog", None)


def test_the_lowest_bits_of_16_reach_the_features(tmp_path: Path) -> None:
    run, data = tmp_path / "run", bands(tmp_path)
    assert main([*TINY, "--data", str(data), "--channels", "13", "--out", str(run)]) == 0
    pixels = levels(0, 13, 60000).astype(np.uint16)
    for name, extra in (("a", 0), ("b", 200)):  # less than one level of eight bits
        (tmp_path / "pair").mkdir(exist_ok=True)
        file = tmp_path / "pair" / f"{name}.tif"
        tifffile.imwrite(file, pixels + np.uint16(extra), photometric="minisblack", planarconfig="contig")
    out = tmp_path / "pair.parquet"
    assert main(["embed", "--weights", str(run), "--data", str(tmp_path / "pair"), "--out", str(out)]) == 0
    one, other = np.array(pq.read_table(out)["mean"].to_pylist())
    assert np.abs(one - other).max() > 1e-5


def test_images_need_not_be_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = str(shards(tmp_path)), tmp_path / "run"
    wide = ["--image-size", "32x64"]
    assert main([*of_size("32x64"), "--data", data, "--out", str(run)]) == 0
    assert "32x64 pixels, 4x8 patches of which 8 are visible" in capsys.readouterr().err
    assert main(["embed", "--weights", str(run), "--data", data, "--out", str(tmp_path / "f.parquet")]) == 0
    assert (
        main(["reconstruct", "--weights", str(run), "--data", data, "--rows", "2", "--out", str(tmp_path / "p.png")])
        == 0
    )
    with Image.open(tmp_path / "p.png") as drawn:
        assert drawn.width > 2.4 * drawn.height  # four wide panels a row
    assert main(["knn", "--weights", str(run), "--data", data, "--neighbours", "3"]) == 0
    for stage in ("linear", "finetune"):
        network = [
            "--width",
            "32",
            "--depth",
            "2",
            "--heads",
            "2",
            "--patch-size",
            "8",
            "--epochs",
            "1",
            "--batch-size",
            "4",
            "--workers",
            "0",
        ]
        out = ["--weights", str(run), "--data", data, "--out", str(tmp_path / stage)]
        assert main([stage, f"vit-b16-800e-{stage}", *network, *wide, "--eval-resize", "32", *out]) == 0


def test_weights_for_colour_squares_start_a_pretraining_on_wide_bands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colour, wide = tmp_path / "colour", tmp_path / "wide"
    assert main([*TINY, "--data", str(parquet(tmp_path)), "--out", str(colour)]) == 0
    data = ["--data", str(bands(tmp_path)), "--channels", "13"]
    assert main([*of_size("32x48"), *data, "--out", str(wide), "--weights", str(colour), "--base-lr", "0"]) == 0
    capsys.readouterr()
    from openmae import load_encoder

    old, new = load_encoder(colour).state_dict(), load_encoder(wide).state_dict()
    assert new["patch_embed.proj.weight"].shape == (32, 13, 8, 8)
    assert new["pos_embed"].shape == (1, 1 + 4 * 6, 32)
    same = [name for name in old if old[name].shape == new[name].shape]
    assert len(same) == len(old) - 2
    deeper = [*TINY[: TINY.index("--depth")], "--depth", "3", *TINY[TINY.index("--depth") + 2 :]]
    code = main([*deeper, *data, "--out", str(tmp_path / "other"), "--weights", str(colour)])
    assert code == 1
    assert "is of another network than vit-b16-800e (depth 2 instead of 3)" in capsys.readouterr().err
    assert all(torch.equal(old[name], new[name]) for name in same)
