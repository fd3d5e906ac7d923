"""Linear evaluation: the encoder stays frozen, the head is the protocol's, results are recorded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openmae.evaluation.heads.linear_probe import LinearProbe
from openmae.evaluation.protocols.linear import run_linear
from openmae.recipes import LinearRecipe, find_recipe
from openmae.weights.building import load_encoder


def recipe(weights: Path, data: Path, **changes: Any) -> LinearRecipe:
    found = find_recipe("fashion-mnist", "linear")
    assert isinstance(found, LinearRecipe)
    small: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "epochs": 3, "batch_size": 40, "workers": 0}
    return replace(found, **{**small, "weights": str(weights), "data": str(data), **changes})


def test_only_the_head_learns_and_the_encoder_is_bitwise_unchanged(tiny_run: Path) -> None:
    vit = load_encoder(tiny_run)
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    probe = LinearProbe(vit, 10, pool="cls", head_std=0.01).train()
    assert not vit.training
    optimizer = torch.optim.SGD([p for p in probe.parameters() if p.requires_grad], lr=1.0)
    linear = probe.head[1]
    assert isinstance(linear, torch.nn.Linear)
    start = linear.weight.clone()
    loss = torch.nn.functional.cross_entropy(probe(torch.randn(8, 1, 28, 28)), torch.arange(8))
    torch.autograd.backward(loss)
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.state_dict().items())
    assert not torch.equal(linear.weight, start)


def test_head_is_batch_norm_without_affine_then_a_small_linear_layer(tiny_run: Path) -> None:
    probe = LinearProbe(load_encoder(tiny_run), 1000, pool="cls", head_std=0.01)
    norm, linear = probe.head[0], probe.head[1]
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert isinstance(linear, torch.nn.Linear)
    assert (norm.affine, norm.eps) == (False, 1e-6)
    assert float(linear.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not linear.bias.any()


def test_run_writes_head_and_results(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    result = run_linear(recipe(tiny_run, small_fashion), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == result
    assert (result["protocol"], result["train_images"], result["test_images"]) == ("linear", 120, 40)
    assert load_file(tmp_path / "run" / "head.safetensors")["1.weight"].shape == (10, 32)
    evaluated = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "top1" in line
    ]
    assert len(evaluated) == 3, "once an epoch"
    assert evaluated[-1]["top1"] == result["top1"]


def test_cached_features_take_the_same_protocol_path(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    result = run_linear(recipe(tiny_run, small_fashion, cached=True), tmp_path / "run")
    assert result["cached"] is True
    assert result["top1"] > 20, "twelve labels a class beat chance"
    assert run_linear(recipe(tiny_run, small_fashion, cached=True), tmp_path / "run") == result


def test_label_fraction_reduces_the_training_images(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    result = run_linear(recipe(tiny_run, small_fashion, cached=True, label_fraction=0.5), tmp_path / "run")
    assert (result["train_images"], result["test_images"]) == (60, 40)


def test_without_a_test_split_a_fifth_is_held_out(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    only_train = small_fashion / "train.parquet"
    result = run_linear(recipe(tiny_run, only_train, cached=True), tmp_path / "run")
    assert (result["train_images"], result["test_images"]) == (100, 20)


def test_untrained_twin_depends_on_the_seed(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    results = [
        run_linear(recipe(tiny_run, small_fashion, cached=True, untrained=True, seed=seed), tmp_path / str(run))["top5"]
        for run, seed in enumerate((1, 1, 2))
    ]
    assert results[0] == results[1]


def test_weights_of_another_network_are_refused_with_the_flags_to_add(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"width 32 instead of 128.*--width 32"):
        run_linear(recipe(tiny_run, small_fashion, width=128), tmp_path / "run")


@pytest.mark.parametrize("missing", ["weights", "data"])
def test_missing_input_is_named(missing: str, tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {missing: None}
    with pytest.raises(ValueError, match=f"give --{missing}"):
        run_linear(replace(recipe(tiny_run, small_fashion), **nothing), tmp_path / "run")
