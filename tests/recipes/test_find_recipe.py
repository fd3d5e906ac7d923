import re

import pytest

from openmae.recipes import RECIPES, Stage, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_found_by_its_name_and_by_its_stage(name: str) -> None:
    recipe = RECIPES[name]
    assert find_recipe(name) is recipe
    assert find_recipe(name, recipe.stage) is recipe


@pytest.mark.parametrize(
    ("name", "stage", "found"),
    [
        ("cifar10", "pretrain", "cifar10"),
        ("cifar10", "linear", "cifar10-linear"),
        ("cifar10", "finetune", "cifar10-finetune"),
        ("fashion-mnist", "linear", "fashion-mnist-linear"),
        ("vit-b16-800e", "linear", "vit-b16-800e-linear"),
        ("vit-b16-800e-mm", "linear", "vit-b16-800e-linear-mm"),
        ("vit-b16-800e-mm", "finetune", "vit-b16-800e-finetune-mm"),
        ("vit-h14-1600e-mm", "finetune", "vit-h14-1600e-finetune-mm"),
        ("vit-h14-1600e", "linear", "vit-h14-1600e-linear"),
    ],
)
def test_a_stage_finds_the_recipe_of_the_same_pretraining(name: str, stage: Stage, found: str) -> None:
    assert find_recipe(name, stage) is RECIPES[found]


@pytest.mark.parametrize(
    ("name", "stage", "nearest"),
    [
        ("vit-b16-80e", None, "vit-b16-800e"),
        ("cifar-10", None, "cifar10"),
        ("fashion_mnist", "pretrain", "fashion-mnist"),
        ("vit-b16-800e-lin", "linear", "vit-b16-800e-linear"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, stage: Stage | None, nearest: str) -> None:
    kind = f"{stage} " if stage else ""
    with pytest.raises(ValueError, match=rf"^there is no {kind}recipe called '{name}'; did you mean {nearest}[,?]"):
        find_recipe(name, stage)


def test_suggestions_are_of_the_stage_that_was_asked_for() -> None:
    with pytest.raises(ValueError, match="did you mean") as caught:
        find_recipe("vit-b16-80e", "finetune")
    suggested = re.findall(r"vit-[\w-]+", str(caught.value).split("did you mean")[1])
    assert suggested
    assert {RECIPES[name].stage for name in suggested} == {"finetune"}


@pytest.mark.parametrize("stage", [None, "linear"])
def test_a_name_like_no_other_is_answered_with_the_list(stage: Stage | None) -> None:
    with pytest.raises(ValueError, match=r"recipe called 'zzzzzz'; `openmae recipes` lists them\.$"):
        find_recipe("zzzzzz", stage)


@pytest.mark.parametrize(
    ("name", "own", "stage"),
    [
        ("cifar10-linear", "linear", "pretrain"),
        ("cifar10-linear", "linear", "finetune"),
        ("vit-b16-800e-finetune-mm", "finetune", "pretrain"),
        ("vit-h14-1600e-mm", "pretrain", "linear"),  # MMSelfSup published no linear evaluation of ViT-H
    ],
)
def test_a_recipe_of_another_stage_is_refused_by_the_name_of_its_own(name: str, own: Stage, stage: Stage) -> None:
    with pytest.raises(ValueError, match=f"^{name} is a recipe for {own}, not for {stage}; did you mean "):
        find_recipe(name, stage)
