"""The library's front door: names are there, lazy, and the verbs work as functions."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import openmae
from openmae.recipes import PretrainRecipe
from openmae.verbs import VERBS, Verb


def test_every_public_name_can_be_had() -> None:
    for name in openmae.__all__:
        assert getattr(openmae, name) is not None
    assert set(dir(openmae)) == set(openmae.__all__)


def test_every_verb_is_a_public_name_by_the_same_function() -> None:
    for name, verb in VERBS.items():
        if name != "recipes":  # a package of that name holds the recipes
            assert name in openmae.__all__
            assert getattr(openmae, name) is verb.run


def test_a_verb_of_two_words_has_an_underscore_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def say_hello() -> str:
        return "hello"

    monkeypatch.setitem(VERBS, "say-hello", Verb(say_hello))
    assert openmae.say_hello is say_hello
    assert "say_hello" in openmae.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pretain'"):
        _ = openmae.pretain


def test_importing_the_package_loads_no_torch() -> None:
    program = "import sys, openmae; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_pretrain_and_load_encoder_from_python(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    result = openmae.pretrain(tiny_recipe, out=tmp_path / "run", epochs=1, seed=3)
    assert (result["epoch"], result["seed"]) == (1.0, 3)
    encoder = openmae.load_encoder(tmp_path / "run")
    assert not encoder.training
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 32)


def test_a_field_that_no_recipe_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pretrain recipe has no epoch; `openmae recipes cifar10`"):
        openmae.pretrain("cifar10", out=tmp_path, epoch=3)
