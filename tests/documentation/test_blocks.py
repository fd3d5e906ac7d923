"""Every block of shell and Python in README.md and docs/ runs, at small size, or stands on a list with the reason."""

import contextlib
import re
import shutil
import tomllib
from pathlib import Path

import pytest

import openmae
from openmae.verbs import VERBS
from openmae.verbs.flags import parse
from tests.documentation.pages import PAGES, PYTHON, READ_ONLY, ROOT, SHELL, Line, blocks_of, lines_of
from tests.documentation.small import PRETRAINING, SUPERVISED, fields, make_world, reason_not_to_run, run, small_python

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LINES = [line for block in BLOCKS if block.is_shell for line in lines_of(block)]
TRAININGS = ("pretrain", "linear", "finetune")
PLACEHOLDERS = {"RECIPE": "vit-b16-800e", "NAME": "vit-b16-1600e-mm"}


def is_runnable(page: Path) -> bool:
    blocks = blocks_of(page)
    lines = [line for block in blocks if block.is_shell for line in lines_of(block)]
    return any(block.is_python for block in blocks) or any(reason_not_to_run(line) is None for line in lines)


@pytest.fixture(scope="module")
def world(small_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation") / "world"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder, small_fashion)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if is_runnable(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "world"
    shutil.copytree(world, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"openmae": openmae, "PRETRAINING": fields(PRETRAINING), "SUPERVISED": fields(SUPERVISED)}
    prepared = set(Path("runs").iterdir())
    for block in blocks_of(page):
        if block.is_python:
            exec(compile(small_python(block.text), block.place, "exec"), names)
        for line in lines_of(block) if block.is_shell else ():
            if reason_not_to_run(line):
                continue
            words = line.openmae
            assert words is not None, f"{block.place}: no test runs {' '.join(line.words)!r}; see NOT_RUN in small.py"
            if words[0] in TRAININGS and "--out" in words:  # what the page itself has trained, goes on
                out = Path(words[words.index("--out") + 1])
                if out in prepared and str(out) not in words[: words.index("--out")]:
                    shutil.rmtree(out)
                    prepared.remove(out)
            if line.into is None:
                run(*words)
                continue
            with Path(line.into).open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
                run(*words)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.block.place} {' '.join(line.words)}")
def test_a_command_is_understood(line: Line, tmp_path: Path) -> None:
    words = line.openmae
    if words is None:
        require_other_command(line)
        return
    words = tuple(PLACEHOLDERS.get(word, word) for word in words)
    if words[0] == "slurm":  # its own flags come first
        words = words[next(place for place, word in enumerate(words) if word in TRAININGS) :]
    if words[0].startswith("-") or "--help" in words:
        return
    if "--recipe-file" in words:
        place = words.index("--recipe-file") + 1
        words = (words[0], "vit-b16-800e", *words[1 : place - 1], *words[place + 1 :])
    parse(words[0], VERBS[words[0]].run, words[1:])


def require_other_command(line: Line) -> None:
    """Commands of make, pip and Python name what is there."""
    program, *rest = line.words
    if program == "make":
        targets = re.findall(r"^([\w-]+)(?=[ \w-]*:)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert rest[0] in targets, f"{line.block.place}: the Makefile has no {rest[0]}"
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for extra in re.findall(r"openmae\[([\w,]+)\]", " ".join(rest)):
            assert set(extra.split(",")) <= set(extras["optional-dependencies"])
    elif program == "python":
        file = Path(*rest[1].split(".")).with_suffix(".py") if rest[0] == "-m" else Path(rest[0])
        assert (ROOT / file).exists() or (ROOT / file.with_suffix("") / "__main__.py").exists()
    else:
        assert reason_not_to_run(line), f"{line.block.place}: unknown command {' '.join(line.words)!r}"


def test_a_block_that_is_not_run_says_that_it_is_text() -> None:
    known = {*SHELL, *PYTHON, *READ_ONLY}
    for block in BLOCKS:
        assert block.language in known or block.language.startswith("{"), f"{block.place}: {block.language}"


def test_the_blocks_and_commands_are_found() -> None:
    verbs = {line.openmae[0] for line in LINES if line.openmae}
    assert {"check", "pretrain", "linear", "finetune", "knn", "predict", "embed", "reconstruct", "slurm"} <= verbs
    assert any(block.is_python for block in BLOCKS)
