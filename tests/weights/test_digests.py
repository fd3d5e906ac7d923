"""Weights that were damaged on the disk are noticed, wherever the damage is."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from openmae.checkpoints.checkpoint import MODEL, list_checkpoints
from openmae.checkpoints.digest import DIGEST_KEY, digest_of
from openmae.checkpoints.names import ENCODER
from openmae.recipes import PretrainRecipe
from openmae.weights.converting import convert_weights
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.reading import read_weights


def flip_bit(file: Path, place: float) -> None:
    """Flip one bit at this share of the tensors' bytes."""
    contents = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(contents[:8], "little")
    contents[header + int(place * (len(contents) - header - 1))] ^= 1
    file.write_bytes(contents)


@pytest.mark.parametrize("place", [0, 0.3, 1])
def test_a_flipped_bit_anywhere_in_the_tensors_is_damage(tiny_run: Path, tmp_path: Path, place: float) -> None:
    shutil.copy(tiny_run / ENCODER, tmp_path)
    read_weights(tmp_path / ENCODER)
    flip_bit(tmp_path / ENCODER, place)
    with pytest.raises(ValueError, match="is damaged: its tensors are not those that were written"):
        read_weights(tmp_path / ENCODER)


def test_a_file_of_a_checkpoint_is_verified_when_it_is_given_itself(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(list_checkpoints(tiny_run / "checkpoints")[0], tmp_path / "step-00000006")
    file = tmp_path / "step-00000006" / MODEL
    read_weights(file)
    flip_bit(file, 0.5)
    with pytest.raises(ValueError, match=r"model.safetensors is damaged \(model.safetensors is not what was written\)"):
        read_weights(file)


def test_a_file_of_an_older_version_has_no_digest_and_is_read(
    tiny_run: Path, tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    tensors = load_file(tiny_run / ENCODER)
    save_file(tensors, tmp_path / ENCODER, metadata=recipe_metadata(tiny_recipe))
    assert read_weights(tmp_path / ENCODER).digest == read_weights(tiny_run / ENCODER).digest == digest_of(tensors)


def test_converted_weights_have_a_digest_and_are_verified(tiny_run: Path, tmp_path: Path) -> None:
    convert_weights(tiny_run, tmp_path / "timm", target="timm")
    file = tmp_path / "timm" / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        assert DIGEST_KEY in opened.metadata()
    assert json.loads((tmp_path / "timm" / "config.json").read_text())["pretrained_cfg"]["crop_pct"] == 1.0
    flip_bit(file, 0.5)
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(tmp_path / "timm")
