import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.recipes import RECIPES, PretrainRecipe, Recipe
from openmae.recipes.saved import from_yaml, to_dict, to_yaml

PRETRAIN = PretrainRecipe(name="mine", follows="openmae", backbone="vit", epochs=3, batch_size=128, base_lr=1e-3)

LEFT_OUT = "(left out)"


def changed(recipe: Recipe, changes: dict[str, Any]) -> str:
    """The recipe's YAML with some of its values exchanged or left out."""
    values = to_dict(recipe) | changes
    return yaml.safe_dump({name: value for name, value in values.items() if value != LEFT_OUT})


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_reads_back_as_the_same_recipe(name: str) -> None:
    recipe = RECIPES[name]
    read = from_yaml(to_yaml(recipe))
    assert read == recipe
    assert type(read) is type(recipe)
    for field in dataclasses.fields(recipe):
        assert type(getattr(read, field.name)) in (type(getattr(recipe, field.name)), float), field.name


@pytest.mark.parametrize("break_", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_a_file_name_with_a_line_break_reads_back(break_: str) -> None:
    recipe = replace(PRETRAIN, data=f"a{break_}b", weights=break_)
    assert from_yaml(to_yaml(recipe)) == recipe


def test_yaml_is_plain_text_with_the_stage_first() -> None:
    text = to_yaml(RECIPES["vit-b16-800e-finetune"])
    assert text.startswith("stage: finetune\nname: vit-b16-800e-finetune\n")
    assert "\nimage_size: 224x224\n" in text
    assert "\nlayer_decay: 0.65\n" in text
    assert "!" not in text
    assert "…" in to_yaml(replace(PRETRAIN, note="0 … 1"))


def test_a_whole_number_stands_for_a_fraction() -> None:
    recipe = from_yaml(changed(PRETRAIN, {"base_lr": 1, "clip_norm": 2, "crop_scale": [1, 1], "image_size": 96}))
    assert (recipe.base_lr, recipe.clip_norm, recipe.crop_scale) == (1.0, 2.0, (1.0, 1.0))
    assert all(type(value) is float for value in (recipe.base_lr, recipe.clip_norm, *recipe.crop_scale))
    assert recipe.image_size == (96, 96)


def test_fields_that_are_left_out_take_their_defaults() -> None:
    assert from_yaml(changed(replace(PRETRAIN, seed=3), {"seed": LEFT_OUT})).seed == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1, "speed": 2}, "unknown recipe fields: colour, speed; `openmae recipes NAME` prints"),
        ({"layer_decay": 0.5}, "unknown recipe fields: layer_decay;"),
        ({3: 4}, "unknown recipe fields: 3;"),
        ({"epochs": "many"}, "--epochs must be a whole number, not 'many'"),
        ({"epochs": 1.5}, "--epochs must be a whole number, not 1.5"),
        ({"epochs": True}, "--epochs must be a whole number, not True"),
        ({"epochs": None}, "--epochs must be a whole number, not None"),
        ({"base_lr": "fast"}, "--base-lr must be a number, not 'fast'"),
        ({"base_lr": False}, "--base-lr must be a number, not False"),
        ({"base_lr": [1]}, r"--base-lr must be a number, not \[1\]"),
        ({"compile": 1}, "--compile must be true or false, not 1"),
        ({"compile": "yes please"}, "--compile must be true or false, not 'yes please'"),
        ({"data": 3}, "--data must be text or a list of texts or None, not 3"),
        ({"clip_norm": "1"}, "--clip-norm must be a number or None, not '1'"),
        ({"backbone": None}, "--backbone must be text, not None"),
        ({"optimizer": "sgd"}, "optimizer must be one of adamw, lars, muon, not 'sgd'"),
        ({"optimizer": ["adamw"]}, r"optimizer must be one of adamw, lars, muon, not \['adamw'\]"),
        ({"published_by": "me"}, "--published-by must be fair or mm or None, not 'me'"),
        ({"betas": 0.9}, "--betas must be a list of 2 numbers, not 0.9"),
        ({"betas": [0.9, "b"]}, r"--betas must be a list of 2 numbers, not \[0.9, 'b'\]"),
        ({"betas": [0.9, 0.95, 0.99]}, r"--betas must be a list of 2 numbers, not \[0.9, 0.95, 0.99\]"),
        ({"crop_scale": [0.2]}, r"--crop-scale must be a list of 2 numbers, not \[0.2\]"),
        ({"mean": [True, 0.5, 0.5]}, "mean must be a list of numbers"),
        (
            {"image_size": "large"},
            r"--image-size must be an image size \(224, or 224x448 for height x width\), not 'large'",
        ),
        ({"image_size": None}, "--image-size must be an image size .* not None"),
        ({"base_lr": LEFT_OUT}, "incomplete recipe: .*'base_lr'"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"stage": "dream"}, "no stage of pretrain, linear or finetune"),
        ({"stage": ["pretrain"]}, "no stage of pretrain, linear or finetune"),
        ({"stage": None}, "no stage of pretrain, linear or finetune"),
        ({"stage": "linear"}, "unknown recipe fields: axis_order, decoder_depth"),
    ],
)
def test_a_wrong_recipe_file_is_refused_by_the_name_of_its_fault(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_yaml(changed(PRETRAIN, changes))


@pytest.mark.parametrize("text", ["", "just words", "- 1\n- 2", "3", "name: x", "null"])
def test_text_that_is_no_recipe_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a recipe: .* `openmae recipes NAME` prints one$"):
        from_yaml(text)


@pytest.mark.parametrize("text", ["a: [", "\0", "{[a]: 1}", "a: &x [*y]", "name: 0000-00-00"])
def test_text_that_is_no_yaml_is_said_to_be_unreadable(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a readable recipe"):
        from_yaml(text)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:pathlib.Path.touch [{path}]",
        "!!python/object/apply:os.system ['touch {path}']",
        "!!python/object/new:os.system ['touch {path}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
    ],
)
@pytest.mark.parametrize("place", ["{}", "stage: {}", "stage: pretrain\nname: {}"])
def test_yaml_that_names_python_objects_is_refused_and_not_run(tmp_path: Path, place: str, value: str) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match=r"^not a readable recipe"):
        from_yaml(place.format(value.format(path=trace)))
    assert not trace.exists()


@settings(deadline=None)
@given(text=st.text(alphabet="stagepretrain:[]{}-!&*'\"\n 01.", max_size=60))
def test_any_text_is_a_recipe_or_a_readable_error(text: str) -> None:
    with pytest.raises(ValueError, match="recipe"):
        from_yaml(text)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.1e-2", "10e-4", "1.e-3", "+1e-3"])
def test_numbers_may_be_written_with_an_exponent(text: str) -> None:
    recipe = from_yaml(changed(PRETRAIN, {"base_lr": LEFT_OUT}) + f"base_lr: {text}\n")
    assert recipe.base_lr == 1e-3


@pytest.mark.parametrize("field", ["base_lr", "weight_decay", "mask_ratio", "flip", "warmup_epochs", "clip_norm"])
@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf"])
def test_numbers_must_be_finite(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^--{field.replace('_', '-')} must"):
        from_yaml(changed(PRETRAIN, {field: LEFT_OUT}) + f"{field}: {text}\n")
