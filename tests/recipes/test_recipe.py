import dataclasses
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.recipes import RECIPES, FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe
from openmae.recipes.recipe import Every, ImageSize, from_yaml, to_dict, to_yaml

PRETRAIN = PretrainRecipe(name="mine", follows="openmae", backbone="vit", epochs=3, batch_size=128, base_lr=1e-3)
LINEAR = LinearRecipe(name="mine", follows="openmae", backbone="vit", epochs=3, batch_size=128, base_lr=1e-3)
FINETUNE = FinetuneRecipe(name="mine", follows="openmae", backbone="vit", epochs=3, batch_size=128, base_lr=1e-3)


LEFT_OUT = "(left out)"


def changed(recipe: Recipe, changes: dict[str, Any]) -> str:
    """The recipe's YAML with some of its values exchanged or left out."""
    values = to_dict(recipe) | changes
    return yaml.safe_dump({name: value for name, value in values.items() if value != LEFT_OUT})


# Sizes and rates


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("224x448", (224, 448)), ("32X64", (32, 64)), ("1", (1, 1))]
)
def test_an_image_size_is_one_side_or_height_by_width(text: str, size: tuple[int, int]) -> None:
    parsed = ImageSize.parse(text)
    assert parsed == size
    assert (parsed.height, parsed.width) == size


@pytest.mark.parametrize("text", ["", "x", "0", "224x", "x224", "224x0", "-3", "2.5", "1x2x3", "big", "[224, 224]"])
def test_what_is_no_image_size_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an image size; write 224, or 224x448 for height x width$"):
        ImageSize.parse(text)


@settings(deadline=None)
@given(height=st.integers(1, 10_000), width=st.integers(1, 10_000))
def test_an_image_size_reads_back_what_it_prints(height: int, width: int) -> None:
    size = ImageSize(height, width)
    assert ImageSize.parse(str(size)) == size


@settings(deadline=None)
@given(batch_size=st.integers(1, 100_000), factor=st.integers(1, 8))
def test_the_learning_rate_scales_with_the_batch(batch_size: int, factor: int) -> None:
    recipe = replace(PRETRAIN, batch_size=batch_size)
    assert replace(PRETRAIN, batch_size=256).lr == PRETRAIN.base_lr
    assert replace(recipe, batch_size=batch_size * factor).lr == pytest.approx(recipe.lr * factor)


# Frozen


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_cannot_be_changed(name: str) -> None:
    for field in dataclasses.fields(RECIPES[name]):
        with pytest.raises(FrozenInstanceError):
            setattr(RECIPES[name], field.name, None)


def test_the_table_of_recipes_cannot_be_changed() -> None:
    table: Any = RECIPES
    with pytest.raises(TypeError):
        table["mine"] = PRETRAIN


# YAML


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_reads_back_as_the_same_recipe(name: str) -> None:
    recipe = RECIPES[name]
    read = from_yaml(to_yaml(recipe))
    assert read == recipe
    assert type(read) is type(recipe)
    for field in dataclasses.fields(recipe):
        assert type(getattr(read, field.name)) in (type(getattr(recipe, field.name)), float), field.name


@settings(deadline=None)
@given(
    base_lr=st.floats(1e-12, 1e3),
    epochs=st.integers(1, 10_000),
    size=st.builds(ImageSize, st.integers(1, 999), st.integers(1, 999)),
    data=st.none() | st.text(min_size=1).filter(str.isprintable),
    ratio=st.floats(0.01, 0.99),
    clip=st.none() | st.floats(1e-6, 10),
    fast=st.booleans(),
)
def test_yaml_reads_back_any_values(
    base_lr: float, epochs: int, size: ImageSize, data: str | None, ratio: float, clip: float | None, fast: bool
) -> None:
    recipe = replace(
        PRETRAIN,
        base_lr=base_lr,
        epochs=epochs,
        image_size=size,
        data=data,
        mask_ratio=ratio,
        clip_norm=clip,
        compile=fast,
    )
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
        ({"epochs": "many"}, "epochs must be int, not 'many'"),
        ({"epochs": 1.5}, "epochs must be int, not 1.5"),
        ({"epochs": True}, "epochs must be int, not True"),
        ({"epochs": None}, "epochs must be int, not None"),
        ({"base_lr": "fast"}, "base_lr must be float, not 'fast'"),
        ({"base_lr": False}, "base_lr must be float, not False"),
        ({"base_lr": [1]}, r"base_lr must be float, not \[1\]"),
        ({"compile": 1}, "compile must be bool, not 1"),
        ({"compile": "yes please"}, "compile must be bool, not 'yes please'"),
        ({"data": 3}, "data must be str or null, not 3"),
        ({"clip_norm": "1"}, "clip_norm must be float or null, not '1'"),
        ({"backbone": None}, "backbone must be str, not None"),
        ({"optimizer": "sgd"}, "optimizer must be one of adamw, lars, muon, not 'sgd'"),
        ({"optimizer": ["adamw"]}, r"optimizer must be one of adamw, lars, muon, not \['adamw'\]"),
        ({"published_by": "me"}, "published_by must be fair or mm or null, not 'me'"),
        ({"betas": 0.9}, "betas must be a list of numbers, not 0.9"),
        ({"betas": [0.9, "b"]}, r"betas must be a list of numbers, not \[0.9, 'b'\]"),
        ({"betas": [0.9, 0.95, 0.99]}, r"betas must be a list of 2 numbers, not \[0.9, 0.95, 0.99\]"),
        ({"crop_scale": [0.2]}, r"crop_scale must be a list of 2 numbers, not \[0.2\]"),
        ({"mean": [True, 0.5, 0.5]}, "mean must be a list of numbers"),
        ({"image_size": "large"}, "'large' is not an image size"),
        ({"image_size": None}, "'None' is not an image size"),
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


# Validation


@pytest.mark.parametrize(
    ("recipe", "changes", "flag", "found"),
    [
        *(
            (PRETRAIN, {name: 0}, f"--{name.replace('_', '-')} must be at least 1", "not 0")
            for name in ("epochs", "batch_size", "accumulate", "channels", "devices", "nodes", "log_every", "keep_last")
        ),
        *(
            (PRETRAIN, {name: 0}, f"--{name.replace('_', '-')} must be at least 1", "not 0")
            for name in ("patch_size", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads")
        ),
        (FINETUNE, {"eval_every": 0}, "--eval-every must be at least 1", "not 0"),
        (LINEAR, {"crop_attempts": 0}, "--crop-attempts must be at least 1", "not 0"),
        *(
            (FINETUNE, {name: 0.0}, f"--{name.replace('_', '-')} must be greater than 0", "not 0.0")
            for name in ("clip_norm", "head_std")
        ),
        *(
            (FINETUNE, {name: -1}, f"--{name.replace('_', '-')} must be 0 or greater", "not -1")
            for name in ("base_lr", "weight_decay", "warmup_epochs", "warmup_start", "min_lr", "mixup", "cutmix")
        ),
        (PRETRAIN, {"workers": -1}, "--workers must be 0 or greater", "not -1"),
        (PRETRAIN, {"peer_timeout": 0.0}, "--peer-timeout must be greater than 0", "not 0.0"),
        (PRETRAIN, {"strategy": "fsdp", "ema_decay": 0.9}, "--strategy fsdp knows neither --ema-decay", "ddp"),
        (
            PRETRAIN,
            {"strategy": "fsdp", "precision": "16-mixed"},
            "--strategy fsdp knows neither --ema-decay nor --precision 16-mixed;",
            "use --strategy ddp",
        ),
        (PRETRAIN, {"mlp_bias_std": -1.0}, "--mlp-bias-std must be 0 or greater", "not -1.0"),
        *(
            (FINETUNE, {name: value}, f"--{name.replace('_', '-')} must lie in 0 … 1", f"not {value}")
            for name in ("flip", "erasing", "max_bad", "momentum", "drop_path", "label_smoothing", "layer_decay")
            for value in (-0.1, 1.1)
        ),
        *(
            (PRETRAIN, {name: value}, f"--{name.replace('_', '-')} must lie between 0 and 1", f"not {value}")
            for name in ("mask_ratio", "ema_decay")
            for value in (0.0, 1.0)
        ),
        (PRETRAIN, {"std": (0.5, 0.0, 0.5)}, "--mean must be numbers and --std positive ones", "0.0"),
        (PRETRAIN, {"mean": (0.5, math.nan, 0.5)}, "--mean must be numbers and --std positive ones", "nan"),
        (PRETRAIN, {"betas": (0.9, 1.0)}, "--betas must lie in 0 … 1, 1 excluded", r"not \(0.9, 1.0\)"),
        (PRETRAIN, {"batch_size": -4}, "--batch-size must be at least 1", "not -4"),
        (PRETRAIN, {"repeats": 0}, "--repeats must be at least 1", "not 0"),
        (
            PRETRAIN,
            {"channels": 1, "normalize": "recipe"},
            "--mean has 3 values and --std 3 for 1 channels",
            "give one",
        ),
        (
            PRETRAIN,
            {"channels": 4, "mean": (0.5,)},
            "--mean has 1 values and --std 3 for 4 channels",
            "give one of each",
        ),
        (PRETRAIN, {"mean": (0.5,)}, "--mean has 1 values and --std 3", "give one of each per channel"),
        (PRETRAIN, {"std": (0.5, 0.5)}, "--mean has 3 values and --std 2", "give one of each per channel"),
        (PRETRAIN, {"crop_scale": (0.0, 1.0)}, "--crop-scale must be two rising shares", r"not \(0.0, 1.0\)"),
        (PRETRAIN, {"crop_scale": (0.2, 1.1)}, "--crop-scale must be two rising shares", r"not \(0.2, 1.1\)"),
        (PRETRAIN, {"crop_scale": (0.5, 0.2)}, "--crop-scale must be two rising shares", r"not \(0.5, 0.2\)"),
        (PRETRAIN, {"seed": -1}, "--seed must lie in 0 … 4294967295", "not -1"),
        (PRETRAIN, {"seed": 2**32}, "--seed must lie in 0 … 4294967295", "not 4294967296"),
        (LINEAR, {"label_fraction": 0.0}, r"--label-fraction must lie in \(0, 1\]", "not 0.0; 0.01 is one per cent"),
        (FINETUNE, {"label_fraction": 10.0}, r"--label-fraction must lie in \(0, 1\]", "not 10.0"),
        (FINETUNE, {"eval_resize": 200}, "--eval-resize 200 is smaller than the image size 224x224", "at least 224"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_name_of_its_flag(
    recipe: Recipe, changes: dict[str, Any], flag: str, found: str
) -> None:
    with pytest.raises(ValueError, match=f"^{flag}.*{found}"):
        replace(recipe, **changes)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (PRETRAIN, {"epochs": 1, "batch_size": 1}),
        (PRETRAIN, {"channels": 1, "mean": (0.5,), "std": (0.5,)}),
        (PRETRAIN, {"crop_scale": (1.0, 1.0)}),
        (PRETRAIN, {"seed": 2**32 - 1}),
        (LINEAR, {"label_fraction": 1.0}),
        (LINEAR, {"eval_resize": 224}),
        (FINETUNE, {"image_size": ImageSize(224, 448), "eval_resize": 224}),
        (FINETUNE, {"flip": 0.0, "erasing": 1.0, "max_bad": 1.0, "mixup": 0.0, "layer_decay": 1.0, "workers": 0}),
        (PRETRAIN, {"weight_decay": 0.0, "warmup_epochs": 0, "clip_norm": None, "ema_decay": None}),
        (PRETRAIN, {"save_every": Every(0, "min"), "base_lr": 0.0}),
    ],
)
def test_values_at_the_bounds_are_accepted(recipe: Recipe, changes: dict[str, Any]) -> None:
    accepted = replace(recipe, **changes)
    assert {name: getattr(accepted, name) for name in changes} == changes


def test_statistics_are_measured_where_imagenets_cannot_be_meant() -> None:
    assert not PRETRAIN.measures_statistics
    assert not replace(PRETRAIN, pixel_type="uint8").measures_statistics
    assert replace(PRETRAIN, pixel_type="uint16").measures_statistics
    assert replace(PRETRAIN, channels=13).measures_statistics
    assert replace(PRETRAIN, normalize="from-data").measures_statistics
    assert not replace(PRETRAIN, pixel_type="uint16", normalize="recipe").measures_statistics
    assert not replace(PRETRAIN, channels=1, mean=(0.5,), std=(0.2,)).measures_statistics
