"""How long to train, beside published runs."""

import pytest

from openmae.recipes import PretrainRecipe, find_recipe
from openmae.reporting.plan.published_runs import FEWEST_STEPS, propose, published_runs


def recipe(name: str) -> PretrainRecipe:
    found = find_recipe(name, "pretrain")
    assert isinstance(found, PretrainRecipe)
    return found


def test_runs_of_the_same_backbone_come_from_the_table_of_recipes() -> None:
    runs = {run["name"]: run for run in published_runs(recipe("vit-l16-800e"), 1_281_167 * 400)}
    assert [name for name in runs if "ImageNet" in name] == [
        f"vit-l16-{epochs}e on ImageNet" for epochs in (400, 800, 1600)
    ]
    assert [round(run["share"], 3) for run in runs.values()][:3] == [1.0, 0.5, 0.25]
    assert runs["vit-l16-1600e on ImageNet"]["result"] == "fine-tuned 85.95, linear 76.0"


def test_a_backbone_without_published_runs_stands_beside_vit_b() -> None:
    assert published_runs(recipe("cifar10"), 1)[0]["name"] == "vit-b16-300e on ImageNet"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (1_281_167, [(300, 4096), (1600, 4096)]),
        (100_000, [(200, 512), (2000, 4096)]),
        (50_000, [(200, 256), (2000, 4096)]),
        (5_000, [(200, 64), (2000, 256)]),
        (100, [(200, 64), (2000, 64)]),
        (30, [(200, 30), (2000, 30)]),
    ],
)
def test_a_batch_leaves_the_run_enough_steps(images: int, expected: list[tuple[int, int]]) -> None:
    proposals = propose(recipe("vit-b16-800e"), images)
    assert [(one["epochs"], one["batch_size"]) for one in proposals] == expected
    for one in proposals:
        assert one["samples"] == one["steps"] * one["batch_size"] <= images * one["epochs"]
        assert one["steps"] > 0.9 * FEWEST_STEPS or one["batch_size"] <= 64
        assert one["lr"] == pytest.approx(1.5e-4 * one["batch_size"] / 256)
