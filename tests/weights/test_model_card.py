"""The card of a folder for the hub: licence, data, figures and use, and nothing about the machine."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import openmae
from openmae.checkpoints.tensor_files import save_tensors
from openmae.core.network import Network
from openmae.recipes import FinetuneRecipe, PretrainRecipe, find_recipe
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.formats.timm import input_of
from openmae.weights.lineage import origin_of
from openmae.weights.model_card import model_card
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import NETWORK, weights_of


def card(source: str | Path, *, recipe: PretrainRecipe | FinetuneRecipe | None = None, kind: str = "encoder") -> str:
    return model_card(source, replace(weights_of(kind), recipe=recipe), "huggingface", "me/vit")


def recipe_from(weights: str | Path | None) -> PretrainRecipe:
    recipe = find_recipe("fashion-mnist", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    return replace(recipe, weights=None if weights is None else str(weights))


def test_the_card_of_a_run_says_recipe_images_and_figures_but_no_place(tiny_run: Path, tmp_path: Path) -> None:
    openmae.convert(tiny_run, tmp_path / "vit", to="timm")
    text = (tmp_path / "vit" / "README.md").read_text()
    results = json.loads((tiny_run / "results.json").read_text())
    assert "| epochs | 2 |" in text
    assert "| mask\\_ratio | 0.75 |" in text or "| mask_ratio | 0.75 |" in text
    assert "Trained on 120 images of train. Fingerprint of their names, sizes and labels: `" in text
    assert f"| training loss | {results['loss']:.6g} |" in text
    assert 'timm.create_model("hf-hub:vit", pretrained=True)' in text
    for secret in (str(tiny_run), str(tiny_run.parent), "small-fashion", str(tmp_path), ".parquet"):
        assert secret not in text
    assert "license" not in yaml.safe_load(text.split("---")[1])
    assert "Whoever publishes the result chooses its licence" in text


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    read: Any = ModelCard(card("zoo:vit-b16-1600e-fair")).data
    assert (read.license, read.library_name) == ("cc-by-nc-4.0", "transformers")
    assert read.pipeline_tag == "image-feature-extraction"
    read = ModelCard(card(tmp_path, kind="by class token")).data
    assert read.pipeline_tag == "image-classification"


@pytest.mark.parametrize(
    ("start", "licence", "words"),
    [
        (None, "", "started from random weights"),
        ("zoo:vit-b16-1600e-fair", "cc-by-nc-4.0", "under CC-BY-NC-4.0; what is trained from it is under the same"),
        ("zoo:vit-b16-1600e-mm", "apache-2.0", "zoo:vit-b16-1600e-mm"),
        ("cache/vit-b16-1600e-fair/file.pth", "cc-by-nc-4.0", "zoo:vit-b16-1600e-fair"),
        ("hf://nobody/nothing", "", "does not name its licence"),
        ("gone", "", "weights that are gone"),
        ("a folder", "mit", "whose card names the licence mit"),
        ("a file.pth", "", "a file of another project, which does not name its licence"),
    ],
)
def test_the_licence_of_the_start_carries_on_through_every_training(
    start: str | None, licence: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "a file.pth").touch()
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_tensors(first, {"a": torch.zeros(1)}, recipe_metadata(recipe_from(start)))
    save_tensors(second, {"a": torch.zeros(1)}, recipe_metadata(recipe_from(first)))
    for recipe in (recipe_from(start), recipe_from(first), recipe_from(second)):
        found = origin_of("here", recipe)
        assert found.licence == licence
        assert words in found.words


def test_trainings_in_a_circle_end(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_tensors(file, {"a": torch.zeros(1)}, recipe_metadata(recipe_from(file)))
    assert "in a circle" in origin_of("here", recipe_from(file)).words


def test_a_run_folder_leads_to_the_licence_of_its_start(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "encoder.safetensors").unlink()
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("weights: null", "weights: zoo:vit-b16-1600e-fair"))
    assert origin_of("here", recipe_from(tmp_path / "run")).licence == "cc-by-nc-4.0"
    checkpoint = next((tmp_path / "run" / "checkpoints").iterdir())
    assert origin_of("here", recipe_from(checkpoint)).licence == "cc-by-nc-4.0"


def test_names_of_strangers_are_no_markup() -> None:
    weights = weights_of("by class token")
    named = replace(
        weights, notes={"task": "classification", "classes": ["<script>", "a|b", "# c\nd", "`x`", "", "", ""]}
    )
    text = model_card("here", named, "huggingface", "me/vit")
    assert "\\<script\\>, a\\|b, \\# c d, \\`x\\`" in text


def unusual() -> Network:
    return replace(NETWORK, image_size=(16, 16), mean=(0.1, 0.2, 0.3), std=(0.3, 0.4, 0.5), eval_resize=20)


def test_timm_makes_the_right_transform_and_class_names_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [f"class {number}" for number in range(7)]
    weights = replace(weights_of("by class token", unusual()), notes={"task": "classification", "classes": classes})
    monkeypatch.setattr("openmae.weights.converting.read_weights", lambda *_, **__: weights)
    openmae.convert("anything", tmp_path / "vit", to="timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'vit'}", pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    expected = input_of(unusual())
    for name in ("input_size", "mean", "std"):
        assert tuple(config[name]) == expected[name]
    assert (config["interpolation"], config["crop_pct"]) == (expected["interpolation"], expected["crop_pct"])
    transform = timm.data.create_transform(**config)
    pixels = transform(Image.new("RGB", (40, 30), (255, 0, 0)))
    assert pixels.shape == (3, 16, 16)
    assert pixels[:, 0, 0].tolist() == pytest.approx([(1 - 0.1) / 0.3, -0.2 / 0.4, -0.3 / 0.5], abs=1e-5)
    assert list(model.pretrained_cfg["label_names"]) == classes
    assert list(read_weights(tmp_path / "vit").classes) == classes
