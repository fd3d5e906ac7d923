"""The verbs as functions: arguments are converted and checked when the call is made."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import openmae
from openmae.recipes import LinearRecipe, PretrainRecipe, find_recipe
from openmae.recipes.constraints import at_least
from openmae.reporter import Reporter, current, use
from openmae.verbs import VERBS
from openmae.verbs.verb import verb


@verb
def count(
    *,
    number: Annotated[int, at_least(1)] = 1,
    share: float = 0.5,
    place: Path = Path(),
    names: Sequence[str | Path] = (),
) -> tuple[Any, ...]:
    """Count."""
    return number, share, place, names


def test_arguments_are_converted() -> None:
    found = count(number=np.int64(3), share=1, place="a", names=["b", Path("c")])  # type: ignore[arg-type]
    assert found == (3, 1.0, Path("a"), ("b", Path("c")))
    assert [type(value) for value in found[:2]] == [int, float]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 0}, "--number must be at least 1, not 0"),
        ({"number": "3"}, "--number must be a whole number, not '3'"),
        ({"share": None}, "--share must be a number, not None"),
        ({"names": "a.png"}, "--names must be a list of paths, not 'a.png'"),
    ],
)
def test_an_argument_that_does_not_fit_is_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole message is compared
        count(**arguments)
    assert str(error.value) == message


def test_a_misspelt_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nmber"):
        count(nmber=3)  # type: ignore[call-arg]


def test_one_of_several_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    @verb
    def speaks() -> bool:
        return not current().console.quiet

    with use(Reporter()):
        assert speaks()
        monkeypatch.setenv("RANK", "1")
        assert not speaks()


def test_quiet_silences_what_a_verb_says(capsys: pytest.CaptureFixture[str]) -> None:
    with use(Reporter()):
        with openmae.quiet():
            current().say("a message")
        assert capsys.readouterr().err == ""
        current().say("another")
        assert capsys.readouterr().err == "another\n"


def test_embed_refuses_batches_of_none_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--batch-size must be at least 1, not 0$"):
        openmae.embed(weights=tmp_path / "nowhere", data="nowhere", out=tmp_path / "f.parquet", batch_size=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": "large"}, "--image-size must be an image size"),
        ({"image_size": (32, 64, 3)}, "--image-size must be an image size"),
        ({"save_every": 5}, "--save-every must be a time or a count"),
        ({"epochs": 1.5}, "--epochs must be a whole number, not 1.5"),
        ({"mask_ratio": 1}, "--mask-ratio must lie between 0 and 1"),
        ({"data": 3}, "--data must be text or a list of texts or None"),
        ({"epoch": 3}, "a pretrain recipe has no epoch; `openmae recipes cifar10`"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_when_the_call_is_made(
    fields: dict[str, Any], message: str, trained: Callable[..., PretrainRecipe]
) -> None:
    with pytest.raises(ValueError, match=message):
        trained("cifar10", **fields)


def test_a_recipe_of_another_stage_is_refused(trained: Callable[..., PretrainRecipe]) -> None:
    with pytest.raises(ValueError, match="cifar10-linear is a recipe for linear, not for pretrain"):
        trained("cifar10-linear")
    linear = find_recipe("cifar10", "linear")
    assert isinstance(linear, LinearRecipe)
    with pytest.raises(ValueError, match="recipe must be text or a PretrainRecipe"):
        trained(linear)


def test_every_verb_converts_its_arguments() -> None:
    for name, entry in VERBS.items():
        assert hasattr(entry.run, "__wrapped__"), f"{name} lacks the decorator `verb`"
