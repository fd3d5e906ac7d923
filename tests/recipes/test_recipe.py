import dataclasses
import math
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.errors import UserError
from openmae.recipes import RECIPES, FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe
from openmae.recipes.constraints import POSITIVE
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.recipes.stages import RECIPE_TYPES
from openmae.recipes.values import Every, ImageSize

BASE: dict[str, Any] = {
    "name": "mine",
    "follows": "openmae",
    "backbone": "vit",
    "epochs": 3,
    "batch_size": 128,
    "base_lr": 1e-3,
}
PRETRAIN, LINEAR, FINETUNE = PretrainRecipe(**BASE), LinearRecipe(**BASE), FinetuneRecipe(**BASE)


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


# Conversion


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_size": 64}, ImageSize(64, 64)),
        ({"image_size": (32, 64)}, ImageSize(32, 64)),
        ({"image_size": [32, 64]}, ImageSize(32, 64)),
        ({"image_size": "32x64"}, ImageSize(32, 64)),
        ({"data": Path("a/b")}, "a/b"),
        ({"labels": Path("a.csv")}, "a.csv"),
        ({"weights": Path("runs/a")}, "runs/a"),
        ({"save_every": "5min"}, Every(5.0, "min")),
        ({"betas": [0, 0.5]}, (0.0, 0.5)),
        ({"base_lr": 1}, 1.0),
        ({"base_lr": "1e-3"}, 1e-3),
        ({"epochs": np.int64(3)}, 3),
        ({"clip_norm": np.float32(0.5)}, 0.5),
    ],
)
def test_python_gives_a_recipe_the_declared_types(changes: dict[str, Any], expected: object) -> None:
    (name,) = changes
    made = PretrainRecipe(**(BASE | changes))
    for recipe in (made, replace(PRETRAIN, **changes)):
        assert getattr(recipe, name) == expected
        assert type(getattr(recipe, name)) is type(expected)
        assert hash(recipe) == hash(made)
        assert from_yaml(to_yaml(recipe)) == made


@pytest.mark.parametrize("kind", RECIPE_TYPES.values())
def test_no_field_takes_an_object_that_yaml_cannot_hold(kind: type[Recipe]) -> None:
    for field in dataclasses.fields(kind):
        flag = f"--{field.name.replace('_', '-')}"
        with pytest.raises(UserError, match=f"^{flag} must be .*, not <object object at"):
            kind(**(BASE | {field.name: object()}))


def test_defaults_have_the_declared_types_too() -> None:
    assert type(PRETRAIN.warmup_epochs) is float


def test_a_range_that_cannot_be_checked_fails_with_the_first_recipe() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong(PretrainRecipe):
        colour: Annotated[str | None, POSITIVE] = None

    with pytest.raises(TypeError, match="--colour has a range, but is declared as"):
        Wrong(**BASE)


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
        (PRETRAIN, {"std": (0.5, 0.0, 0.5)}, "--std must be greater than 0", "0.0"),
        (PRETRAIN, {"mean": (0.5, math.nan, 0.5)}, "--mean must be a list of numbers", "nan"),
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
        (
            FINETUNE,
            {"eval_resize": 200},
            "--eval-resize 200 is smaller than the image size 224x224",
            "at least 224, or leave it out",
        ),
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
