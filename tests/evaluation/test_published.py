"""A published classifier checked against its figure: the order of classes, the tolerance, the exit code."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from openmae.cli import main
from openmae.data.sources import Data, open_data
from openmae.errors import UserError
from openmae.evaluation import published
from openmae.evaluation.published import check_published
from openmae.recipes import FinetuneRecipe, find_recipe
from openmae.recipes.values import ImageSize
from openmae.recipes.zoo import ZOO, ZooEntry
from openmae.reporting.zoo import details_of, show_zoo
from openmae.weights.weights import Weights
from tests.weights.formats.samples import NETWORK, random_like, shapes_of

NAME = "vit-b16-1600e-finetune-mm"
SYNSETS = ("n01440764", "n02000000", "n15075141")


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a colour image in each class."""

    def make(names: tuple[str, ...] = SYNSETS, folder: str = "imagenet") -> Path:
        for place, name in enumerate(names):
            (tmp_path / folder / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), (40 * place, 200 - 40 * place, 90)).save(tmp_path / folder / name / "a.png")
        return tmp_path / folder.partition("/")[0]

    return make


@pytest.fixture
def predicting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the published file a small classifier of three classes that always predicts the given one."""

    def predict(always: int) -> None:
        shapes = {
            **shapes_of(NETWORK, "fine-tuned"),
            "head.weight": torch.empty(3, 192),
            "head.bias": torch.empty(3),
        }
        tensors = random_like(shapes)
        tensors["head.weight"] *= 1e-3
        tensors["head.bias"] = torch.arange(3.0).eq(always) * 10
        weights = Weights(tensors=tensors, network=NETWORK, file=Path("here"))
        monkeypatch.setattr(published, "read_weights", lambda _: weights)
        recipe = find_recipe(NAME, "finetune")
        assert isinstance(recipe, FinetuneRecipe)
        small = replace(recipe, image_size=ImageSize(16, 16), eval_resize=16, workers=0)
        monkeypatch.setattr(published, "find_recipe", lambda *_: small)

    monkeypatch.setattr(published, "CLASSES", 3)
    return predict


def entry(**changes: Any) -> ZooEntry:
    return replace(ZOO[NAME], **changes)


@pytest.mark.parametrize(("top1", "agrees"), [(33.43, True), (33.24, True), (33.44, False), (33.2, False)])
def test_a_figure_agrees_within_a_tenth_of_a_per_cent(
    images: Callable[..., Path], predicting: Callable[[int], None], top1: float, agrees: bool
) -> None:
    predicting(1)
    result = check_published(entry(top1=top1), str(images()))
    assert result["agrees"] == agrees
    assert result["top1"] == pytest.approx(100 / 3, abs=1e-3)
    assert (result["images"], result["synsets"]) == (3, True)


def test_classes_are_counted_in_the_order_of_their_synsets(
    images: Callable[..., Path], predicting: Callable[[int], None]
) -> None:
    predicting(2)
    data = images((SYNSETS[2], SYNSETS[0], SYNSETS[1]))
    (data / SYNSETS[0] / "a.png").rename(data / SYNSETS[0] / "z.png")
    assert check_published(entry(top1=33.33), str(data))["agrees"]


def test_validation_images_are_taken_whether_or_not_others_lie_beside_them(
    images: Callable[..., Path], predicting: Callable[[int], None]
) -> None:
    predicting(0)
    images(folder="imagenet/val")
    data = images(folder="imagenet/train")
    shutil.copy(data / "train" / SYNSETS[0] / "a.png", data / "train" / SYNSETS[0] / "not-measured.png")
    assert check_published(entry(), str(data))["images"] == 3
    assert check_published(entry(), str(data / "val"))["images"] == 3
    everything = {name: open_data(str(data / "val")).train for name in ("train", "test", "val")}
    assert published._measured_split(Data(splits=everything)) == "val"


def test_classes_without_synsets_are_taken_in_order_and_that_is_said(
    images: Callable[..., Path], predicting: Callable[[int], None], said: list[str]
) -> None:
    predicting(0)
    result = check_published(entry(), str(images(("cat", "dog", "horse"))))
    assert not result["synsets"]
    assert any("not named by synsets" in message and "'cat'" in message for message in said)
    shown = list(show_zoo(result))
    assert "differs from the published 83.50 %" in str(shown[0])
    assert "of 3 images, not the 50,000" in str(shown[1])
    assert "this figure means nothing" in str(shown[2])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (SYNSETS[:2], "has 2 classes, and ImageNet-1k has 3"),
        (("n01440764", "n02000000", "n02000001"), "from n01440764 to n02000001, and those of ImageNet-1k from"),
    ],
)
def test_images_of_other_classes_are_refused(
    images: Callable[..., Path], predicting: Callable[[int], None], names: tuple[str, ...], words: str
) -> None:
    predicting(0)
    with pytest.raises(UserError, match=words):
        check_published(entry(), str(images(names)))


@pytest.mark.parametrize("name", ["vit-b16-1600e-mm", "vit-b16-1600e-linear-mm", "vit-b16-300e-finetune-mm"])
def test_only_a_published_classifier_can_be_checked(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no published classifier to check"):
        check_published(ZOO[name], "nowhere")
    assert "--check" not in "\n".join(details_of(ZOO[name])["use"])


def test_the_command_ends_with_an_error_code_when_the_figure_differs(
    images: Callable[..., Path],
    predicting: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predicting(0)
    data = str(images())
    for words in (["--json"], []):
        assert main(["zoo", NAME, "--check", "--data", data, *words]) == 1
    shown = capsys.readouterr().out
    assert '"agrees": false' in shown
    assert f"{NAME}: top-1 33.33 %" in shown
    monkeypatch.setattr(published, "TOLERANCE", 60.0)
    assert main(["zoo", NAME, "--check", "--data", data]) == 0
    assert main(["zoo", NAME, "--check"]) == 1
    assert main(["zoo", NAME, "--data", data]) == 1
    problems = capsys.readouterr().err
    assert "--check needs images" in problems
    assert "--data is for --check" in problems
