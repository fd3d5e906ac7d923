"""What the pages of the documentation hold: their blocks of code, and the commands in these and in the text."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCED = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "bash", "shell", "console")
PYTHON = ("python", "py")
READ_ONLY = ("text", "yaml", "json", "csv", "html", "diff")  # shown, and never run


@dataclass(frozen=True)
class Block:
    """A fenced block. `language` is the word behind the fence; {directives} of the site keep their braces."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """As in docs/data.md:17."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL

    @property
    def is_python(self) -> bool:
        return self.language in PYTHON


@dataclass(frozen=True)
class Line:
    """One command of a shell block, its words as a shell splits them."""

    block: Block
    words: tuple[str, ...]
    into: str | None = None  # the file behind `>`

    @property
    def openmae(self) -> tuple[str, ...] | None:
        """The words behind `openmae`, whoever starts it; None for another program."""
        for place, word in enumerate(self.words):
            if word in ("openmae", "openmae.cli") and (place == 0 or self.words[place - 1] == "-m"):
                return self.words[place + 1 :]
        return None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"].strip(),
            text=found["text"],
        )
        for found in FENCED.finditer(text)
    ]


def lines_of(block: Block) -> Iterator[Line]:
    """The commands of a shell block, without comments."""
    assert block.is_shell
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        into = words[-1] if words[-2:-1] == [">"] else None
        if words:
            yield Line(block, tuple(words[:-2] if into else words), into)
