"""The shell's side of a verb: its flags are its parameters, and no value passes that the signature does not take."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import tyro

from openmae.cli import main
from openmae.errors import WrongUsage
from openmae.recipes import RECIPES, find_recipe
from openmae.recipes.constraints import Range, at_least
from openmae.recipes.conversion import flag
from openmae.recipes.recipe import Recipe, Stage, declarations
from openmae.recipes.saved import to_yaml
from openmae.recipes.stages import RECIPE_TYPES
from openmae.verbs import VERBS
from openmae.verbs.flags import parse
from openmae.verbs.verb import convert_arguments, is_positional

STAGES: dict[str, Stage] = {**{stage: stage for stage in RECIPE_TYPES}, "plan": "pretrain"}
"""The stage of the recipes that a verb takes."""
TRAININGS = tuple(STAGES)
WORDS: dict[str, list[str]] = {
    "check": ["photos"],
    "pack": ["photos", "packed"],
    "knn": ["--weights", "w", "--data", "d"],
    "predict": ["--weights", "w", "--data", "d"],
    "embed": ["--weights", "w", "--data", "d", "--out", "o"],
    "reconstruct": ["--weights", "w", "--out", "o"],
    "explore": ["w"],
    "convert": ["w", "o", "--to", "timm"],
    "watch": ["runs/mine"],
    **{stage: ["cifar10"] for stage in TRAININGS},
}
"""The shortest command of each verb."""


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(VERBS[name].run).parameters)


def flags_in_help(name: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """All flags that `openmae NAME … --help` lists."""
    with pytest.raises(SystemExit):
        parse(name, VERBS[name].run, [*(["cifar10"] if name in TRAININGS else []), "--help"])
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    # An option's line begins with its flags, and ends or goes on with its help after several blanks.
    options = [line.partition("   ")[0] for line in lines if line.startswith("-")]
    return {found for option in options for found in re.findall(r"--[a-z][a-z-]*", option)}


@pytest.mark.parametrize("name", VERBS)
def test_the_flags_of_a_verb_are_its_parameters(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    expected = {
        flag(parameter.name): parameter.annotation
        for parameter in parameters(name).values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    if name in TRAININGS:
        declared = declarations(type(find_recipe("cifar10", STAGES[name])))
        hidden = get_args(tyro.conf.Suppress[int])[1]
        expected |= {flag(field): kind for field, kind in declared.items() if hidden not in get_args(kind)}
    expected["--json"] = expected["--quiet"] = bool
    switches = {f"--no-{name.removeprefix('--')}" for name, kind in expected.items() if bool in (kind, *get_args(kind))}
    assert flags_in_help(name, capsys) == {*expected, *switches, "--help"}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_and_its_shell_have_the_same_defaults(name: str) -> None:
    call = parse(name, VERBS[name].run, WORDS.get(name, []))
    assert not call.json
    for parameter in parameters(name).values():
        if parameter.default is not parameter.empty:
            assert call.arguments[parameter.name] == parameter.default
    if name in TRAININGS:
        assert call.arguments["recipe"] == find_recipe("cifar10", STAGES[name])


@pytest.mark.parametrize("name", VERBS)
def test_every_parameter_is_explained(name: str) -> None:
    documented = inspect.getdoc(VERBS[name].run) or ""
    first, _, rest = documented.partition("\n")
    assert first.endswith(".")
    assert len(first) <= 105, "the list of verbs shows it on one line"
    for parameter in parameters(name):
        assert f"\n    {parameter}: " in rest


def ranges() -> list[Any]:
    """For every range in every verb: the verb, the parameter and a number outside of the range."""
    found = []
    for name in VERBS:
        for parameter in parameters(name).values():
            for marker in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(marker, Range):
                    outside = marker.low - 1 if marker.low > -1e300 else marker.high + 1
                    found.append(pytest.param(name, parameter, outside, id=f"{name} {parameter.name} {marker.words}"))
    return found


@pytest.mark.parametrize(("name", "parameter", "number"), ranges())
def test_a_number_out_of_range_is_refused_by_the_name_of_its_flag(
    name: str, parameter: inspect.Parameter, number: float, capsys: pytest.CaptureFixture[str]
) -> None:
    number = int(number)
    assert main([name, *WORDS.get(name, []), flag(parameter.name), str(number)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"openmae: {flag(parameter.name)} must ")
    assert re.search(f"`openmae {name}[a-z0-9 ]* --help` explains", message)
    with pytest.raises(ValueError, match=f"^{flag(parameter.name)} must "):
        convert_arguments(VERBS[name].run, {parameter.name: number})


def test_ranges_are_found_on_most_verbs() -> None:
    assert {parameter.values[0] for parameter in ranges()} >= {"knn", "embed", "pack", "check", "reconstruct", "demo"}


@pytest.mark.parametrize("name", TRAININGS)
def test_help_of_a_training_without_a_recipe_lists_the_recipes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(name, VERBS[name].run, ["--help"])
    assert stop.value.code == 0
    listed = capsys.readouterr().out.partition("recipes:\n")[2].split()
    assert listed == [recipe.name for recipe in RECIPES.values() if recipe.stage == STAGES[name]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe-file"], "needs the path"),
        (["--recipe-file", "nowhere.yaml"], "there is no recipe file nowhere.yaml"),
        (["--recipe-file", "binary.yaml"], "binary.yaml cannot be read"),
        (["--recipe-file", "list.yaml"], "list.yaml: not a recipe"),
        ([], "which recipe"),
    ],
)
def test_a_training_without_a_readable_recipe_is_wrong_usage(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary.yaml").write_bytes(b"\x80\x04.")
    Path("list.yaml").write_text("[1, 2]")
    with pytest.raises(WrongUsage, match=message):
        parse("pretrain", VERBS["pretrain"].run, words)


def test_the_slashes_of_a_url_reach_the_verb() -> None:
    assert parse("check", VERBS["check"].run, ["hf://owner/name"]).arguments["data"] == "hf://owner/name"


def test_image_files_are_a_list_of_any_length() -> None:
    for images in ([], ["a.png"], ["a.png", "b.png"]):
        call = parse("reconstruct", VERBS["reconstruct"].run, [*images, *WORDS["reconstruct"]])
        assert call.arguments["images"] == tuple(images)


def test_a_function_of_any_signature_can_be_parsed() -> None:
    def hello(name: str, *, times: Annotated[int, at_least(1)] = 1, loud: bool = False) -> str:
        """Greet.

        Args:
            name: Who is greeted.
            times: How often.
            loud: In capitals.
        """
        return name * times

    call = parse("hello", hello, ["you", "--times", "2", "--loud", "--json"])
    assert (call.arguments, call.json) == ({"name": "you", "times": 2, "loud": True}, True)
    assert [is_positional(one) for one in inspect.signature(hello).parameters.values()] == [True, False, False]


def flags_of_kinds() -> list[Any]:
    """A value for a field of each kind, as words of the shell and as Python callers write it."""
    return [
        pytest.param(["--data", "photos"], {"data": Path("photos")}, id="path"),
        pytest.param(["--image-size", "32x64"], {"image_size": (32, 64)}, id="image size"),
        pytest.param(["--image-size", "64"], {"image_size": 64}, id="square"),
        pytest.param(["--save-every", "5min"], {"save_every": "5min"}, id="every"),
        pytest.param(["--mean", "0.1", "0.2", "0.3"], {"mean": [0.1, 0.2, 0.3]}, id="numbers"),
        pytest.param(["--betas", "0.5", "0.9"], {"betas": [0.5, 0.9]}, id="two numbers"),
        pytest.param(["--workers", "3"], {"workers": 3}, id="optional number"),
        pytest.param(["--workers", "None"], {"workers": None}, id="none"),
        pytest.param(["--warmup-epochs", "5"], {"warmup_epochs": 5}, id="whole number as fraction"),
        pytest.param(["--optimizer", "muon"], {"optimizer": "muon"}, id="choice"),
        pytest.param(["--compile"], {"compile": True}, id="switch"),
        pytest.param(["--no-hold"], {"hold": False}, id="switch off"),
    ]


def test_the_shell_says_which_fields_were_given_to_a_recipe_that_follows_the_weights() -> None:
    words = ["adapt", "--weights", "w", "--image-size", "224", "--no-normalise-target", "--epochs", "20"]
    arguments = dict(parse("pretrain", VERBS["pretrain"].run, words).arguments)
    recipe = arguments.pop("recipe")
    assert arguments.pop("out") is None
    assert arguments == {"weights": "w", "image_size": (224, 224), "normalise_target": False, "epochs": 20}
    assert recipe == dataclasses.replace(find_recipe("adapt"), **arguments, warmup_epochs=1.0)


@pytest.mark.parametrize(("words", "fields"), flags_of_kinds())
def test_shell_and_python_make_the_same_recipe(
    words: list[str], fields: dict[str, Any], trained: Callable[..., Recipe]
) -> None:
    from_shell = parse("pretrain", VERBS["pretrain"].run, ["cifar10", *words]).arguments["recipe"]
    from_python = trained("cifar10", **fields)
    assert from_python == from_shell
    for name in fields:
        assert type(getattr(from_python, name)) is type(getattr(from_shell, name))
    assert dataclasses.replace(from_shell) == from_shell


@pytest.mark.parametrize(
    "words",
    [
        ["knn", "--weights", "w", "--data", "a", "--data", "b"],
        ["knn", "--weights", "w", "--data=a", "--data", "b"],
        ["knn", "--data", "a", "b", "--weights", "w"],
        ["check", "a", "b"],
        ["check", "a", "b", "--workers", "0"],
    ],
)
def test_a_data_set_may_be_given_in_several_places(words: list[str]) -> None:
    assert parse(words[0], VERBS[words[0]].run, words[1:]).arguments["data"] == ("a", "b")


@pytest.mark.parametrize("name", TRAININGS)
def test_the_data_of_a_recipe_may_be_given_in_several_places(name: str) -> None:
    def data(*words: str) -> Any:
        return parse(name, VERBS[name].run, ["cifar10", *words]).arguments["recipe"].data

    assert data("--data", "a", "--epochs", "3", "--data=b") == ("a", "b")
    assert data("--data", "a") == "a"


def test_check_without_data_is_wrong_usage() -> None:
    with pytest.raises(WrongUsage, match=r"which data\? `openmae check --help` explains"):
        parse("check", VERBS["check"].run, [])


@pytest.mark.parametrize(
    ("words", "warmup"),
    [
        (["--epochs", "20"], 1),
        (["--epochs=20"], 1),
        (["--epochs", "20", "--warmup-epochs", "40"], 40),
        (["--epochs", "20", "--warmup_epochs=40"], 40),
        (["--epochs", "200"], 40),
    ],
)
def test_a_shorter_run_has_a_shorter_warm_up_unless_it_is_given(
    words: list[str], warmup: float, trained: Callable[..., Recipe], said: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(find_recipe("vit-b16-800e")))
    for recipe in (["vit-b16-800e"], ["--recipe-file", str(file)]):
        call = parse("pretrain", VERBS["pretrain"].run, [*recipe, *words])
        assert call.arguments["recipe"].warmup_epochs == warmup
        assert call.note.startswith("the warm-up is 1 of 20 epochs") is (warmup == 1)
    fields = {"warmup_epochs": 40} if "--warmup" in " ".join(words) else {}
    from_python = trained("vit-b16-800e", epochs=200 if "200" in words else 20, **fields)
    assert from_python == call.arguments["recipe"]
    assert len(said) == (words != ["--epochs", "200"])


def test_several_devices_of_a_plan_start_no_processes() -> None:
    assert not VERBS["plan"].runs_devices
    assert VERBS["pretrain"].runs_devices
