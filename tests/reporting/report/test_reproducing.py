"""What repeats a run."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from openmae.recipes import find_recipe
from openmae.recipes.saved import to_dict
from openmae.reporting.report.reproducing import changed_fields, repeating
from openmae.verbs import VERBS
from openmae.verbs.flags import parse

RECIPE = find_recipe("cifar10", "pretrain")


def recorded(**changes: Any) -> dict[str, Any]:
    return to_dict(replace(RECIPE, **changes))


def test_of_one_run_the_fields_that_differ_from_the_recipe_as_it_comes() -> None:
    (field,) = changed_fields([recorded(epochs=99, workers=3)])
    assert (field.name, field.values, field.usual) == ("epochs", ("99",), "13")


def test_of_several_runs_the_fields_that_differ_between_them() -> None:
    fields = changed_fields([recorded(epochs=99), recorded(epochs=99, mask_ratio=0.5)])
    assert [(field.name, field.values) for field in fields] == [("mask_ratio", ("0.75", "0.5"))]


def test_a_recipe_that_nobody_knows_is_compared_with_nothing() -> None:
    assert changed_fields([{"stage": "somebody's", "name": "x", "epochs": 3}]) == []


def test_the_commands_are_understood_by_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    found = repeating([(folder, recorded(data="my photos"))], {"command": ["/bin/openmae", "pretrain", "a b"]})
    assert found.commands[0].text == "openmae pretrain 'a b'"
    for command in found.commands[2:]:
        program, verb, *words = shlex.split(command.text)
        assert program == "openmae"
        assert parse(verb, VERBS[verb].run, words).arguments


def test_a_stage_that_is_no_text_is_none_that_is_known() -> None:
    assert changed_fields([{"stage": ["pretrain"], "name": "cifar10", "epochs": 3}]) == []
