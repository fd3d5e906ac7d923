"""Features and embeddings: unmasked, deterministic, independent of how images are batched."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from openmae.data.sources import open_data
from openmae.evaluation.embedding import embed
from openmae.evaluation.features import extract_features, pool_tokens
from openmae.evaluation.forward import evaluation_transform
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.weights.building import load_encoder
from openmae.weights.networks import network_of


def embedded(weights: Path, data: str, out: Path, batch_size: int) -> dict[str, np.ndarray]:
    embed(weights, data, out, batch_size=batch_size)
    return {name: np.array(pq.read_table(out)[name].to_pylist()) for name in ("mean", "cls")}


def test_features_do_not_depend_on_the_batch_size(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    one = embedded(tiny_run, str(small_fashion), tmp_path / "one.parquet", 1)
    many = embedded(tiny_run, str(small_fashion), tmp_path / "many.parquet", 64)
    for name in one:
        assert np.abs(one[name] - many[name]).max() < 1e-5


def test_embedding_twice_gives_the_same_rows(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    embed(tiny_run, str(small_fashion), tmp_path / "a.parquet")
    embed(tiny_run, str(small_fashion), tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def test_features_are_those_of_the_plain_timm_model_on_every_patch(
    tiny_run: Path, tiny_recipe: PretrainRecipe, small_fashion: Path
) -> None:
    test = open_data(str(small_fashion)).test
    assert test is not None
    vit = load_encoder(tiny_run)
    features = extract_features(vit, network_of(tiny_recipe), test)
    with Image.open(small_image(test.read(5), small_fashion)) as image:
        pixels = torch.from_numpy(np.array(image)).float() / 255
    normalised = (pixels - tiny_recipe.mean[0]) / tiny_recipe.std[0]
    with torch.no_grad():
        tokens = vit.forward_features(normalised[None, None])
    assert features.cls is not None
    assert np.abs(features.cls[5] - tokens[0, 0].numpy()).max() < 1e-5
    assert np.abs(features.mean[5] - tokens[0, 1:].mean(dim=0).numpy()).max() < 1e-5


def small_image(data: bytes, folder: Path) -> Path:
    path = folder / "one.png"
    path.write_bytes(data)
    return path


def test_table_has_one_row_per_image_with_path_split_and_label(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    counts = embed(tiny_run, str(small_fashion), tmp_path / "e.parquet")
    table = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert counts == {"images": 160, "bad": 0}
    assert len(table) == 160
    assert {row["split"] for row in table} == {"train", "test"}
    assert table[0]["path"] == "train.parquet:0"
    assert table[119]["label"] == 9
    assert all(len(row["mean"]) == 32 and len(row["cls"]) == 32 for row in table)


def test_flat_folder_has_null_labels_and_bad_images_are_counted(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.new("L", (40, 30), 60 * index).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"<html>not an image</html>")
    counts = embed(tiny_run, str(folder), tmp_path / "e.parquet")
    rows = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert counts == {"images": 3, "bad": 1}
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert {row["label"] for row in rows} == {None}


def test_nothing_but_broken_images_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 1 images .* broken\.png"):
        embed(tiny_run, str(tmp_path), tmp_path / "e.parquet")


def test_large_images_are_resized_to_256_for_224_and_small_ones_keep_their_border() -> None:
    assert evaluation_transform(network_of(find_recipe("vit-b16-800e"))).resize == 256
    assert evaluation_transform(network_of(find_recipe("vit-h14-1600e-finetune-448"))).resize == 512
    assert evaluation_transform(network_of(find_recipe("cifar10"))).resize == 32


def test_without_a_class_token_only_the_mean_can_be_pooled(tiny_recipe: PretrainRecipe, small_fashion: Path) -> None:
    vit = network_of(tiny_recipe).build_encoder(class_token=False, global_pool="avg").eval()
    test = open_data(str(small_fashion)).test
    assert test is not None
    features = extract_features(vit, network_of(tiny_recipe), test)
    assert features.pooled("mean").shape == (40, 32)
    with pytest.raises(ValueError, match="--pool mean"):
        features.pooled("cls")


def test_fine_tuned_mean_passes_through_its_norm(tiny_recipe: PretrainRecipe) -> None:
    vit = network_of(tiny_recipe).build_encoder(global_pool="avg").eval()
    torch.nn.init.constant_(vit.fc_norm.bias, 5.0)
    pooled = pool_tokens(vit, torch.randn(2, 50, 32))
    assert pooled.mean.mean(dim=1).tolist() == pytest.approx([5.0, 5.0], abs=1e-4)
