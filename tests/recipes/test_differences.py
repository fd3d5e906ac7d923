from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openmae.recipes import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.recipes.differences import Difference, differences_in_results
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.recipes.values import Every, ImageSize

PRETRAIN = find_recipe("cifar10", "pretrain")
EVERY_STAGE = {
    "devices",
    "nodes",
    "strategy",
    "workers",
    "log_every",
    "save_every",
    "keep_last",
    "peer_timeout",
    "max_bad",
    "track",
    "report",
    "accept_changed_data",
}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (PretrainRecipe, EVERY_STAGE | {"quality_every"}),
        (LinearRecipe, EVERY_STAGE | {"eval_every"}),
        (FinetuneRecipe, EVERY_STAGE | {"eval_every"}),
    ],
)
def test_these_fields_and_no_others_may_change_when_a_run_is_continued(kind: type[Recipe], fields: set[str]) -> None:
    assert kind.fields_without_effect() == fields


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"devices": 2, "nodes": 2, "strategy": "ddp", "workers": 3, "track": "wandb"},
        {"log_every": 1, "save_every": Every(1, "steps"), "keep_last": 9, "peer_timeout": 1.0, "max_bad": 1.0},
    ],
)
def test_a_run_may_be_continued_with_fields_that_change_no_result(changes: dict[str, Any]) -> None:
    assert differences_in_results(PRETRAIN, replace(PRETRAIN, **changes)) == []


def test_each_field_that_changes_results_and_differs_is_named_with_both_values_in_the_order_of_the_fields() -> None:
    new = replace(PRETRAIN, epochs=99, image_size=ImageSize(32, 64), workers=1, data=str(Path("photos")))
    assert differences_in_results(PRETRAIN, new) == [
        Difference("data", None, "photos"),
        Difference("image_size", "32x32", "32x64"),
        Difference("epochs", 13, 99),
    ]


@pytest.mark.parametrize("recipe", [PRETRAIN, find_recipe("cifar10", "linear"), find_recipe("cifar10", "finetune")])
def test_a_run_from_before_splits_could_be_chosen_may_be_continued(recipe: Recipe) -> None:
    old = "".join(
        line for line in to_yaml(recipe).splitlines(keepends=True) if not line.startswith(("split:", "train_split:"))
    )
    assert differences_in_results(from_yaml(old), recipe) == []


def test_a_run_on_other_splits_is_another_run() -> None:
    assert isinstance(PRETRAIN, PretrainRecipe)
    assert differences_in_results(PRETRAIN, replace(PRETRAIN, split=("train",))) == [Difference("split", [], ["train"])]


def test_a_recipe_of_another_stage_differs() -> None:
    found = differences_in_results(PRETRAIN, find_recipe("cifar10", "linear"))
    assert found[0] == Difference("stage", "pretrain", "linear")
    assert Difference("head_std", None, 0.01) in found


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({}, []),
        ({"eval_resize": 256}, []),
        ({"eval_resize": 224}, [Difference("eval_resize", 256, 224)]),
        ({"image_size": 64}, [Difference("image_size", "224x224", "64x64"), Difference("eval_resize", 256, 73)]),
        ({"image_size": 64, "eval_resize": 256}, [Difference("image_size", "224x224", "64x64")]),
    ],
)
def test_an_evaluation_size_that_was_recorded_is_compared_with_the_one_that_follows(
    changes: dict[str, Any], differences: list[Difference]
) -> None:
    recipe = find_recipe("vit-b16-800e-finetune")
    recorded = from_yaml(to_yaml(recipe).replace("eval_resize: null", "eval_resize: 256"))
    assert differences_in_results(recorded, replace(recipe, **changes)) == differences


def test_a_run_at_another_image_size_that_recorded_256_is_another_unless_256_is_given() -> None:
    recipe = replace(find_recipe("vit-b16-800e-finetune"), image_size=ImageSize(64, 64))
    recorded = from_yaml(to_yaml(recipe).replace("eval_resize: null", "eval_resize: 256"))
    assert differences_in_results(recorded, recipe) == [Difference("eval_resize", 256, 73)]
    given: dict[str, Any] = {"eval_resize": 256}
    assert differences_in_results(recorded, replace(recipe, **given)) == []
