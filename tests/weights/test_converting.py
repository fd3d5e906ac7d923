"""`openmae convert`: bit-equal files, run in the libraries that they are for, or nothing at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import openmae
from openmae.core.network import Network
from openmae.errors import UserError
from openmae.weights import converting, foreign_files, proving
from openmae.weights.building import encoder_from
from openmae.weights.converting import convert_weights
from openmae.weights.fitting import fit
from openmae.weights.formats import mm, timm
from openmae.weights.reading import read_weights
from openmae.weights.results import TargetName
from openmae.weights.weights import Weights
from tests.weights.formats.samples import (
    DECODER,
    NETWORK,
    assert_same_tensors,
    random_like,
    shapes_of,
    weights_of,
    with_decoder,
)

PLACES: dict[TargetName, str] = {
    "fair": "full.pth",
    "mmpretrain": "mm.pth",
    "huggingface": "folder",
    "timm": "vit.safetensors",
}
CASES: list[tuple[TargetName, str]] = [
    *(("fair", kind) for kind in ("encoder", "autoencoder", "fine-tuned", "by class token", "probe")),
    *(("mmpretrain", kind) for kind in ("encoder", "autoencoder", "fine-tuned", "by class token", "probe")),
    *(("huggingface", kind) for kind in ("encoder", "autoencoder", "by class token")),
    *(("timm", kind) for kind in ("encoder", "fine-tuned", "by class token")),
]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Callable[[Weights], None]:
    """Makes `convert_weights` read these weights, whatever path it is given."""

    def give(weights: Weights) -> None:
        for name in ("read_weights", "read_whole"):
            monkeypatch.setattr(converting, name, lambda *_, **__: weights)

    return give


def unusual(network: Network = NETWORK) -> Network:
    """A network that no file without a configuration is taken for."""
    return replace(network, image_size=(16, 24), heads=4, mean=(0.1, 0.2, 0.3), std=(0.3, 0.4, 0.5))


@pytest.mark.parametrize(("target", "kind"), CASES)
def test_converted_weights_read_back_to_the_bit_and_run_where_their_library_is_installed(
    target: TargetName, kind: str, tmp_path: Path, source: Callable[[Weights], None]
) -> None:
    ours = weights_of(kind)
    source(ours)
    out = tmp_path / "new" / PLACES[target]
    result = convert_weights("anything", out, target=target)
    assert_same_tensors(read_weights(out, with_decoder=True).tensors, ours.tensors)
    assert (result["tensors"], result["dropped"], result["out"]) == (len(ours.tensors), [], str(out))
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if target in ("fair", "mmpretrain"):
        assert (result["largest_difference"], result["checked_with"]) == (None, "")
    else:
        assert result["checked_with"].startswith("timm" if target == "timm" else "transformers")
        assert result["largest_difference"] is not None
        assert result["largest_difference"] < 1e-10, "both sides compute in double precision"


@pytest.mark.parametrize("kind", ["encoder", "fine-tuned"])
def test_timm_without_a_suffix_is_a_folder_that_says_everything(
    kind: str, tmp_path: Path, source: Callable[[Weights], None]
) -> None:
    source(weights_of(kind, unusual()))
    result = convert_weights("anything", tmp_path / "vit", target="timm")
    assert result["not_said"] == []
    assert sorted(path.name for path in (tmp_path / "vit").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("fair", ["image_size (16, 24)", "heads 4", "normalise_target False"]),
        ("mmpretrain", ["image_size (16, 24)"]),
        ("timm", ["image_size (16, 24)", "heads 4", "mean (0.1, 0.2, 0.3)"]),
    ],
)
def test_facts_that_the_file_does_not_state_are_named(
    target: TargetName, expected: list[str], tmp_path: Path, source: Callable[[Weights], None]
) -> None:
    network = unusual() if target == "timm" else with_decoder(unusual(), DECODER, normalise_target=False)
    kind = "encoder" if target == "timm" else "autoencoder"
    source(Weights(tensors=random_like(shapes_of(network, kind)), network=network, file=Path("here")))
    found = convert_weights("anything", tmp_path / PLACES[target], target=target)["not_said"]
    assert set(expected) <= set(found)


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        ("timm", "autoencoder", r"timm has no place for the decoder of here; \d+ tensors would be lost \(decoder\."),
        ("timm", "probe", "timm has no place for the linear probe"),
        ("huggingface", "probe", "Hugging Face has no place for the linear probe"),
    ],
)
def test_what_would_be_lost_is_refused_unless_it_may_be_dropped(
    target: TargetName, kind: str, message: str, tmp_path: Path, source: Callable[[Weights], None]
) -> None:
    source(weights_of(kind))
    out = tmp_path / PLACES[target]
    with pytest.raises(UserError, match=message):
        convert_weights("anything", out, target=target)
    assert not list(tmp_path.iterdir())
    result = convert_weights("anything", out, target=target, drop=True)
    assert len(result["dropped"]) == 1
    assert_same_tensors(read_weights(out).tensors, weights_of(kind).without_decoder().without_head().tensors)


def test_a_classifier_on_the_mean_of_the_patches_is_lost_to_hugging_face() -> None:
    tensors = {**weights_of("fine-tuned").tensors, **weights_of("encoder").tensors}
    both_norms = replace(weights_of("fine-tuned"), tensors=tensors)
    with pytest.raises(UserError, match="no place for the classifier of here, which takes the mean of the patches"):
        fit(both_norms, "huggingface", drop=False)
    assert fit(both_norms, "huggingface", drop=True).weights.tensors.keys() == weights_of("encoder").tensors.keys()
    for drop in (False, True):
        with pytest.raises(UserError, match="no norm on its tokens"):
            fit(weights_of("fine-tuned"), "huggingface", drop=drop)


def test_vitmae_takes_no_decoder_of_oblong_images() -> None:
    network = with_decoder(unusual())
    oblong = Weights(tensors=random_like(shapes_of(network, "autoencoder")), network=network, file=Path("here"))
    with pytest.raises(UserError, match=r"because ViTMAE takes square images, not 16x24"):
        fit(oblong, "huggingface", drop=False)
    assert not fit(oblong, "huggingface", drop=True).weights.has_decoder


def test_networks_that_only_timm_has_are_refused_by_the_others() -> None:
    tensors = {name: tensor for name, tensor in weights_of("encoder").tensors.items() if name != "cls_token"}
    without = replace(weights_of("encoder"), tensors=tensors)
    for target in ("fair", "mmpretrain", "huggingface"):
        with pytest.raises(UserError, match=r"without a class token, .* use --to timm"):
            fit(without, target, drop=True)
    assert fit(without, "timm", drop=False).dropped == []


def test_a_norm_that_only_timm_has_is_refused_by_name(tmp_path: Path, source: Callable[[Weights], None]) -> None:
    network = replace(NETWORK, backbone="vit_base_patch16_clip_224", width=192, heads=3)
    source(Weights(tensors=random_like(shapes_of(network, "encoder")), network=network, file=Path("here")))
    with pytest.raises(UserError, match="has no place for norm_pre"):
        convert_weights("anything", tmp_path / "a.pth", target="fair")
    assert not list(tmp_path.iterdir())


def test_an_architecture_that_computes_something_else_from_the_same_tensors_is_refused(
    tmp_path: Path, source: Callable[[Weights], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = weights_of("encoder")
    source(ours)

    def with_another_activation(weights: Weights) -> Any:
        vit = encoder_from(weights)
        if weights is ours or weights.layout == ours.layout:
            for block in vit.blocks:
                block.mlp.act = torch.nn.ReLU()
        return vit

    monkeypatch.setattr(proving, "encoder_from", with_another_activation)
    with pytest.raises(UserError, match="computes something else than the plain network"):
        convert_weights("anything", tmp_path / "a.pth", target="fair")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", PLACES)
def test_a_spoiled_conversion_is_removed(
    target: TargetName, tmp_path: Path, source: Callable[[Weights], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source(weights_of("encoder"))

    def spoil(tensors: Any) -> Any:
        name = next(
            name for name in tensors if "norm1.weight" in name or "ln1.weight" in name or "before.weight" in name
        )
        return {**tensors, name: tensors[name] * (1 + 1e-6)}

    save = foreign_files.save_with_digest
    monkeypatch.setattr(foreign_files, "save_with_digest", lambda file, tensors: save(file, spoil(tensors)))
    saves = torch.save
    monkeypatch.setattr(
        torch,
        "save",
        lambda value, path: saves({k: spoil(v) if k != "meta" else v for k, v in value.items()}, path),
    )
    with pytest.raises(UserError, match="does not come back from the written file"):
        convert_weights("anything", tmp_path / PLACES[target], target=target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["huggingface", "timm"])
@pytest.mark.parametrize("difference", [1.1e-5, float("nan")])
def test_outputs_that_differ_remove_the_result(
    target: TargetName,
    difference: float,
    tmp_path: Path,
    source: Callable[[Weights], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source(weights_of("encoder"))
    monkeypatch.setattr(converting, "compare", lambda *_: proving.Compared(difference, "a library 1.0"))
    with pytest.raises(UserError, match=r"a library 1\.0 computes something else .* so they were removed"):
        convert_weights("anything", tmp_path / PLACES[target], target=target)
    assert not list(tmp_path.iterdir())


def test_a_wrong_head_count_in_the_config_is_seen_in_the_outputs(
    tmp_path: Path, source: Callable[[Weights], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source(weights_of("encoder"))
    monkeypatch.setattr(converting, "require_same_tensors", lambda *_: [])
    right = timm.config_of

    def wrong(weights: Weights) -> dict[str, Any]:
        config = right(weights)
        return {**config, "model_args": {**config["model_args"], "num_heads": 6}}

    monkeypatch.setattr(timm, "config_of", wrong)
    with pytest.raises(UserError, match="computes something else"):
        convert_weights("anything", tmp_path / "vit", target="timm")
    assert not list(tmp_path.iterdir())


def test_without_transformers_the_round_trip_is_the_proof(
    tmp_path: Path, source: Callable[[Weights], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source(weights_of("encoder"))
    monkeypatch.setattr(proving, "find_spec", lambda _: None)
    result = convert_weights("anything", tmp_path / "folder", target="huggingface")
    assert (result["largest_difference"], result["checked_with"]) == (None, "")
    assert (tmp_path / "folder" / "config.json").is_file()


@pytest.mark.parametrize(
    ("target", "place", "message"),
    [
        ("fair", "there.pth", "exists already"),
        ("huggingface", "folder", "exists already"),
        ("fair", "a.safetensors", r"ends in \.pth"),
        ("mmpretrain", "a", r"ends in \.pth"),
        ("huggingface", "a.safetensors", "must be a folder"),
        ("timm", "a.pth", r"ends in \.safetensors"),
        ("timm", "folder/a.safetensors", r"has a config\.json"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    target: TargetName, place: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "there.pth").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        convert_weights(tmp_path / "nowhere", tmp_path / place, target=target)


def test_what_a_crash_left_under_the_temporary_name_does_no_harm(
    tmp_path: Path, source: Callable[[Weights], None]
) -> None:
    source(weights_of("encoder"))
    (tmp_path / ".writing-folder").mkdir()
    (tmp_path / ".writing-folder" / "old").touch()
    convert_weights("anything", tmp_path / "folder", target="huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert not (tmp_path / "folder" / "old").exists()


def test_the_result_appears_only_after_the_proof(
    tmp_path: Path, source: Callable[[Weights], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source(weights_of("encoder"))
    seen: list[list[str]] = []

    def look(*_: Any) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])

    monkeypatch.setattr(converting, "compare", look)
    for target, place in PLACES.items():
        convert_weights("anything", tmp_path / target / place, target=target)
        seen.append([path.name for path in (tmp_path / target).iterdir()])
    assert seen[1::2] == [[place] for place in PLACES.values()]


def test_a_file_contains_no_more_than_its_tensors(tmp_path: Path, source: Callable[[Weights], None]) -> None:
    ours = weights_of("encoder")
    views = {
        name: torch.cat([tensor.flatten()] * 3)[: tensor.numel()].view(tensor.shape)
        for name, tensor in ours.tensors.items()
    }
    source(replace(ours, tensors=views))
    convert_weights("anything", tmp_path / "a.pth", target="mmpretrain")
    size = sum(tensor.numel() * 4 for tensor in ours.tensors.values())
    assert (tmp_path / "a.pth").stat().st_size < 1.1 * size


def test_files_go_around_all_layouts_and_come_back(tmp_path: Path) -> None:
    ours = with_decoder(NETWORK)
    tensors = random_like(shapes_of(ours, "autoencoder"))
    torch.save(mm.container_of(Weights(tensors=tensors, network=ours, file=Path())), tmp_path / "0.pth")
    openmae.convert(tmp_path / "0.pth", tmp_path / "1", to="huggingface")
    openmae.convert(tmp_path / "1", tmp_path / "2_full.pth", to="fair")
    result = openmae.convert(tmp_path / "2_full.pth", tmp_path / "3.pth", to="mmpretrain")
    assert result["source"] == "facebookresearch/mae"
    first, last = (torch.load(tmp_path / name, weights_only=True) for name in ("0.pth", "3.pth"))
    assert_same_tensors(first["state_dict"], last["state_dict"])
    assert first["meta"] == last["meta"]


def test_a_run_folder_gives_timm_its_encoder_and_the_others_its_autoencoder(tiny_run: Path, tmp_path: Path) -> None:
    encoder = openmae.convert(tiny_run, tmp_path / "vit", to="timm")
    whole = openmae.convert(tiny_run, tmp_path / "mae", to="huggingface")
    assert (encoder["source"], encoder["dropped"]) == ("OpenMAE", [])
    assert whole["tensors"] > encoder["tensors"]
    assert json.loads((tmp_path / "mae" / "config.json").read_text())["model_type"] == "vit_mae"
    alone = openmae.convert(tiny_run / "encoder.safetensors", tmp_path / "encoder", to="huggingface")
    assert alone["tensors"] == encoder["tensors"]
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["model_type"] == "vit"


def test_half_precision_stays_as_it_is(tmp_path: Path, source: Callable[[Weights], None]) -> None:
    half = {name: tensor.bfloat16() for name, tensor in weights_of("encoder").tensors.items()}
    source(replace(weights_of("encoder"), tensors=half))
    result = convert_weights("anything", tmp_path / "folder", target="huggingface")
    assert_same_tensors(read_weights(tmp_path / "folder").tensors, half)
    assert result["largest_difference"] is not None
    assert result["largest_difference"] < 1e-10
