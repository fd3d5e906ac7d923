"""The literal tables here are those of MMSelfSup's README and of the reference's notes, typed in once more by hand."""

from dataclasses import fields
from typing import Any, NamedTuple

import pytest

from openmae.recipes import RECIPES, FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, Stage
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD

B, L, H = "vit_base_patch16_224", "vit_large_patch16_224", "vit_huge_patch14_224"


class Row(NamedTuple):
    name: str
    backbone: str
    epochs: int
    mm_linear: float | None
    mm_finetune: float
    fair_linear: float | None = None
    fair_finetune: float | None = None


ROWS = [
    Row("vit-b16-300e", B, 300, 60.8, 83.1),
    Row("vit-b16-400e", B, 400, 62.5, 83.3),
    Row("vit-b16-800e", B, 800, 65.1, 83.3),
    Row("vit-b16-1600e", B, 1600, 67.1, 83.5, 67.8, 83.66),
    Row("vit-l16-400e", L, 400, 70.7, 85.2),
    Row("vit-l16-800e", L, 800, 73.7, 85.4),
    Row("vit-l16-1600e", L, 1600, 75.5, 85.7, 76.0, 85.95),
    Row("vit-h14-1600e", H, 1600, None, 86.9, 77.2, 86.93),
]
AT_448 = "vit-h14-1600e-finetune-448"
LINEAR_MM = [row for row in ROWS if row.backbone != H]
FINETUNED = [row.name + "-finetune" for row in ROWS] + [AT_448]

# What every row of one stage and form has in common.
COMMON: dict[tuple[Stage, str], dict[str, Any]] = {
    ("pretrain", "fair"): {
        "batch_size": 4096,
        "base_lr": 1.5e-4,
        "optimizer": "adamw",
        "betas": (0.9, 0.95),
        "weight_decay": 0.05,
        "decay_tokens": True,
        "warmup_epochs": 40,
        "warmup_start": 0,
        "min_lr": 0,
        "mask_ratio": 0.75,
        "normalise_target": True,
        "decoder_width": 512,
        "decoder_depth": 8,
        "decoder_heads": 16,
        "crop_scale": (0.2, 1.0),
        "flip": 0.5,
        "interpolation": "bicubic",
        "axis_order": "column-first",
        "mlp_bias_std": 0,
    },
    ("linear", "fair"): {
        "batch_size": 16384,
        "base_lr": 0.1,
        "optimizer": "lars",
        "momentum": 0.9,
        "weight_decay": 0,
        "warmup_epochs": 10,
        "warmup_start": 0,
        "min_lr": 0,
        "crop_scale": (0.08, 1.0),
        "crop_attempts": 1,
        "flip": 0.5,
        "interpolation": "bicubic",
        "resized_to": 256,
        "pool": "cls",
        "head_std": 0.01,
        "scale_bias_lr": False,
        "lr_in_momentum": False,
        "cached": False,
    },
    ("finetune", "fair"): {
        "batch_size": 1024,
        "optimizer": "adamw",
        "betas": (0.9, 0.999),
        "weight_decay": 0.05,
        "warmup_epochs": 5,
        "warmup_start": 0,
        "min_lr": 1e-6,
        "min_lr_scaled": True,
        "crop_scale": (0.08, 1.0),
        "crop_attempts": 10,
        "flip": 0.5,
        "interpolation": "bicubic",
        "rand_augment": "rand-m9-mstd0.5-inc1",
        "erasing": 0.25,
        "erasing_clipped": False,
        "mixup": 0.8,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "pool": "mean",
        "head_std": 2e-5,
    },
}
# Where MMSelfSup differs.
MM: dict[Stage, dict[str, Any]] = {
    "pretrain": {"axis_order": "row-first", "mlp_bias_std": 1e-6, "decay_tokens": False, "warmup_start": 1e-4},
    "linear": {
        "interpolation": "bilinear",
        "crop_attempts": 10,
        "warmup_start": 1e-4,
        "scale_bias_lr": True,
        "lr_in_momentum": True,
    },
    "finetune": {"warmup_start": 1e-4, "min_lr_scaled": False, "erasing_clipped": True},
}
FROM_THE_SOURCE = {"name", "follows", "published_top1", "published_by", "published_linear_top1", "note"}


def published(stage: Stage) -> list[Recipe]:
    return [recipe for recipe in RECIPES.values() if recipe.follows != "openmae" and recipe.stage == stage]


def get(name: str) -> Any:
    return RECIPES[name]


def test_every_row_is_a_recipe_of_every_stage_and_form_and_nothing_else_is() -> None:
    expected = {AT_448, f"{AT_448}-mm"}
    for row in ROWS:
        expected |= {row.name, f"{row.name}-mm", f"{row.name}-linear"}
        expected |= {f"{row.name}-finetune", f"{row.name}-finetune-mm"}
    expected |= {f"{row.name}-linear-mm" for row in LINEAR_MM}
    assert {name for name, recipe in RECIPES.items() if recipe.follows != "openmae"} == expected


def test_the_name_tells_the_form_and_the_stage() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        if recipe.follows != "openmae":
            assert recipe.follows == ("mm" if name.endswith("-mm") else "fair")
        kind = {"pretrain": PretrainRecipe, "linear": LinearRecipe, "finetune": FinetuneRecipe}[recipe.stage]
        assert isinstance(recipe, kind)
        assert all((stage in name) == (stage == recipe.stage) for stage in ("linear", "finetune"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_pretraining_has_the_backbone_epochs_and_figures_of_its_row(row: Row) -> None:
    fair, mm = get(row.name), get(f"{row.name}-mm")
    assert (fair.backbone, fair.epochs, fair.batch_size) == (row.backbone, row.epochs, 4096)
    assert (mm.backbone, mm.epochs, mm.batch_size) == (row.backbone, row.epochs, 4096)
    assert (mm.published_top1, mm.published_linear_top1, mm.published_by) == (row.mm_finetune, row.mm_linear, "mm")
    if row.fair_finetune is None:
        assert (fair.published_top1, fair.published_linear_top1) == (row.mm_finetune, row.mm_linear)
        assert fair.published_by == "mm"
    else:
        assert (fair.published_top1, fair.published_linear_top1) == (row.fair_finetune, row.fair_linear)
        assert fair.published_by == "fair"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_linear_evaluation_has_the_figures_of_its_row(row: Row) -> None:
    fair = get(f"{row.name}-linear")
    assert (fair.backbone, fair.epochs) == (row.backbone, 90 if row.backbone == B else 50)
    if row.fair_linear is None:
        assert (fair.published_top1, fair.published_by) == (row.mm_linear, "mm")
    else:
        assert (fair.published_top1, fair.published_by) == (row.fair_linear, "fair")
    if row.mm_linear is not None:
        mm = get(f"{row.name}-linear-mm")
        assert (mm.published_top1, mm.published_by) == (row.mm_linear, "mm")
        assert (mm.backbone, mm.epochs) == (row.backbone, 90)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fine_tuning_has_the_figures_and_the_size_dependent_settings_of_its_row(row: Row) -> None:
    fair, mm = get(f"{row.name}-finetune"), get(f"{row.name}-finetune-mm")
    if row.fair_finetune is None:
        assert (fair.published_top1, fair.published_by) == (row.mm_finetune, "mm")
    else:
        assert (fair.published_top1, fair.published_by) == (row.fair_finetune, "fair")
    assert (mm.published_top1, mm.published_by) == (row.mm_finetune, "mm")
    # epochs, base rate, layer-wise decay, drop path
    expected = {B: (100, 5e-4, 0.65, 0.1), L: (50, 1e-3, 0.75, 0.2), H: (50, 1e-3, 0.75, 0.3)}[row.backbone]
    for recipe in (fair, mm):
        assert recipe.backbone == row.backbone
        assert (recipe.epochs, recipe.base_lr, recipe.layer_decay, recipe.drop_path) == expected
        assert recipe.image_size == (224, 224)
        assert recipe.resized_to == 256


def test_fine_tuning_at_448_differs_from_224_in_size_and_figures_only() -> None:
    assert get(AT_448).published_top1 == 87.8
    assert get(AT_448).published_by == "fair"
    assert get(f"{AT_448}-mm").published_top1 == 87.3
    assert get(f"{AT_448}-mm").published_by == "mm"
    for form in ("", "-mm"):
        large, usual = get(AT_448 + form), get("vit-h14-1600e-finetune" + form)
        assert large.image_size == (448, 448)
        assert large.resized_to == 512
        assert "assumed" in large.note
        assert "bf16" in large.note
        differing = {f.name for f in fields(large) if getattr(large, f.name) != getattr(usual, f.name)}
        assert differing - FROM_THE_SOURCE == {"image_size"}


@pytest.mark.parametrize("stage", ["pretrain", "linear", "finetune"])
def test_every_recipe_has_the_published_hyper_parameters(stage: Stage) -> None:
    recipes = published(stage)
    assert len(recipes) == {"pretrain": 16, "linear": 15, "finetune": 18}[stage]
    for recipe in recipes:
        expected = dict(COMMON[stage, "fair"])
        if recipe.follows == "mm":
            expected |= MM[stage]
        assert {name: getattr(recipe, name) for name in expected} == expected, recipe.name
        assert recipe.clip_norm is None
        assert recipe.ema_decay is None
        assert recipe.accumulate == 1
        assert (recipe.mean, recipe.std) == (IMAGENET_MEAN, IMAGENET_STD) == ((0.485, 0.456, 0.406), recipe.std)
        assert recipe.std == (0.229, 0.224, 0.225)
        assert recipe.channels == 3
        # Width, depth and heads are the backbone's own.
        assert (recipe.patch_size, recipe.width, recipe.depth, recipe.heads) == (None, None, None, None)


@pytest.mark.parametrize(
    ("mm", "differing"),
    [
        *((f"{row.name}-mm", set(MM["pretrain"])) for row in ROWS),
        *(
            (f"{row.name}-linear-mm", set(MM["linear"]) | ({"epochs"} if row.backbone == L else set()))
            for row in LINEAR_MM
        ),
        *((f"{name}-mm", set(MM["finetune"])) for name in FINETUNED),
    ],
)
def test_the_two_forms_differ_where_the_sources_disagree_and_nowhere_else(mm: str, differing: set[str]) -> None:
    theirs, fair = get(mm), get(mm.removesuffix("-mm"))
    found = {f.name for f in fields(theirs) if getattr(theirs, f.name) != getattr(fair, f.name)}
    assert found - FROM_THE_SOURCE == differing


def test_fine_tuning_exempts_tokens_from_decay_in_both_forms() -> None:
    # Both hand timm's no_weight_decay list (class token, positions) to their layer-wise groups; only fair's
    # pre-training decays the tokens.
    assert {recipe.decay_tokens for recipe in published("finetune")} == {False}


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("vit-b16-800e", 2.4e-3),
        ("vit-h14-1600e-mm", 2.4e-3),
        ("vit-b16-800e-linear", 6.4),
        ("vit-l16-800e-linear-mm", 6.4),
        ("vit-b16-800e-finetune", 2e-3),
        ("vit-l16-800e-finetune", 4e-3),
        ("vit-h14-1600e-finetune-mm", 4e-3),
        (AT_448, 4e-3),
    ],
)
def test_the_learning_rate_is_the_published_one(name: str, rate: float) -> None:
    assert get(name).lr == pytest.approx(rate, rel=1e-12)
