"""Commands run in this process, and their answers."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmae.cli import main

TINY = ("--width", 64, "--depth", 2, "--heads", 2, "--workers", 0, "--batch-size", 16)
DECODER = ("--decoder-width", 32, "--decoder-depth", 1, "--decoder-heads", 2)


@dataclass(frozen=True)
class Answer:
    """An answer of the command line: exit code, the result as `--json` prints it, and all that was said in one line."""

    code: int
    result: dict[str, Any]
    said: str


@dataclass(frozen=True)
class Shell:
    """Runs commands in a folder of its own.

    Args:
        folder: for the data and whatever the commands write.
        base: a run folder of a tiny network for 8-bit colour, pre-trained on stripes.
    """

    folder: Path
    base: Path

    def ask(self, verb: str, *words: object) -> Answer:
        """Run one command; `--json` is added, so that its result can be read."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([verb, *map(str, words), "--json"])
            except SystemExit as stop:  # tyro's way out
                code = int(stop.code or 0)
        printed = out.getvalue()
        return Answer(code, json.loads(printed) if code == 0 else {}, " ".join((err.getvalue()).split()))

    def done(self, verb: str, *words: object) -> Answer:
        """Run one command that must succeed."""
        answer = self.ask(verb, *words)
        assert answer.code == 0, answer.said
        return answer

    def refused(self, verb: str, *words: object) -> str:
        """Run one command that must be refused; returns its sentence."""
        answer = self.ask(verb, *words)
        assert answer.code in (1, 2), f"not refused, but {answer.result}"
        assert "Traceback" not in answer.said
        assert "please report it" not in answer.said
        return answer.said

    def pretrained(self, recipe: str, data: object, *words: object, name: str = "pretrained") -> Path:
        """The run folder of a tiny pre-training."""
        out = self.folder / name
        self.done("pretrain", recipe, "--data", data, "--out", out, *TINY, *DECODER, *words)
        return out
