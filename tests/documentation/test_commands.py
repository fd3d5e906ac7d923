"""The text of README.md and docs/: the verbs, recipes and flags of commands in it exist, and its links lead to files.

The commands of the blocks are parsed, and most of them run, by test_blocks.py.
"""

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from openmae.cli import main
from tests.documentation.pages import FENCED, PAGES

FLAG = re.compile(r"--[a-z][a-z-]*")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
TRAINING = ("pretrain", "linear", "finetune", "plan")


def documented_commands() -> list[tuple[str, ...]]:
    """The words after `openmae` of every command with flags in the text."""
    commands = set()
    for page in PAGES:
        text = FENCED.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"`([^`]+)`", text):
            words = code.replace("-m openmae.cli", "openmae").split()
            if "openmae" in words and FLAG.search(code) and words[0] in ("openmae", "torchrun"):
                commands.add(tuple(words[words.index("openmae") + 1 :]))
    return sorted(commands)


COMMANDS = documented_commands()


def parts_of(words: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[str]]]:
    """A command as (verb and recipe, flags); `openmae slurm` is followed by the words of a second command."""
    training = next((place for place, word in enumerate(words) if word in TRAINING), None)
    if training is None or {"RECIPE", "NAME", "…", "--recipe-file"} & set(words):
        return [(words[:1], flags_of(words))] if words[0] not in TRAINING else []
    verb = words[training : training + 2]
    before = [(words[:1], flags_of(words[:training]))] if training else []
    return [*before, (verb, flags_of(words[training:]))]


def flags_of(words: tuple[str, ...]) -> list[str]:
    return [word.partition("=")[0] for word in words if FLAG.match(word)]


@cache
def help_of(verb: tuple[str, ...]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        try:
            code: int | str | None = main([*verb, "--help"])
        except SystemExit as ended:  # tyro prints help and exits
            code = ended.code
    assert code == 0, f"openmae {' '.join(verb)} --help ends with {code}: {printed.getvalue()}"
    return printed.getvalue()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_documented_command_has_a_verb_a_recipe_and_flags_that_exist(words: tuple[str, ...]) -> None:
    for verb, flags in parts_of(words):
        known = set(FLAG.findall(help_of(verb))) | {"--help", "--version"}
        assert set(flags) <= known, f"openmae {' '.join(verb)} has no {', '.join(sorted(set(flags) - known))}"


def test_the_documented_commands_are_found() -> None:
    verbs = {words[0] for words in COMMANDS}
    assert {"pretrain", "zoo", "convert", "pack"} <= verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
