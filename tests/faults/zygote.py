"""A process that has imported everything once and forks a child for each trial: a start costs milliseconds.

The zygote has computed nothing before it forks (threads do not survive a fork). A child leads a session of its own, so
that a kill takes its loader processes too, and runs a real command with real files and real signals.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
OPENMAE = (
    "openmae.cli",
    "openmae.verbs",
    "openmae.training.pretraining",
    "openmae.evaluation.embedding",
    "openmae.evaluation.protocols.finetune",
    "openmae.evaluation.protocols.knn",
    "openmae.evaluation.protocols.linear",
    "torch.utils.tensorboard",
)
HUNG = 124
"""The exit code of a child that had to be stopped because it did not end in time."""


@dataclass(frozen=True)
class Child:
    """One trial under way."""

    pid: int
    zygote: "Zygote"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the whole session; without effect when it has ended already."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def alive(self) -> bool:
        """Whether it has not ended yet; what ended stays a zombie until it is waited for."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def wait(self, seconds: float = 120.0) -> int:
        """The exit code, negative for a signal; HUNG, after a kill, when it does not end in time."""
        code = self.zygote.ask({"wait": self.pid, "seconds": seconds})
        if code is None:
            self.kill()
            self.zygote.ask({"wait": self.pid, "seconds": 10.0})
            return HUNG
        return int(code)


class Zygote:
    """The handle on such a process; one trial at a time is waited for, any number may run."""

    def __init__(self, imports: Sequence[str] = OPENMAE) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD, **QUIET},
            cwd=Path(__file__).parents[2],
            text=True,
        )
        self.ask({"ready": True})

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.ask({"end": True})  # to close its input may not be enough: whoever was forked meanwhile has it too
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(
        self,
        target: str,
        arguments: Sequence[str],
        *,
        log: Path,
        hooks: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Fork a child that calls `target` ("module:function") with the arguments, after the hooks."""
        request = {
            "target": target,
            "arguments": list(arguments),
            "log": str(log),
            "hooks": list(hooks),
            "environment": dict(environment or {}),
        }
        return Child(int(self.ask(request)), self)

    def run(self, target: str, arguments: Sequence[str], *, log: Path, hooks: Sequence[str] = ()) -> int:
        """The exit code of a child that is left alone."""
        return self.start(target, arguments, log=log, hooks=hooks).wait()

    def ask(self, request: Mapping[str, Any]) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise RuntimeError("the zygote has ended; what it printed says why")
        return json.loads(answer)


def load(name: str) -> Any:
    """The function that "module:function" names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _serve(requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        request = json.loads(line)
        answer: Any = True
        if "target" in request:
            answer = _fork(request)
        elif "wait" in request:
            answer = _wait(int(request["wait"]), float(request["seconds"]))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if "end" in request:
            return


def _wait(pid: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.001)


def _fork(request: Mapping[str, Any]) -> int:
    ready, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.read(ready, 1)  # the child has a session of its own now and can be killed
        os.close(ready)
        return pid
    code = 70
    try:
        os.setsid()
        os.close(ready)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.write(tell, b"!")
        os.close(tell)
        os.environ.update(request["environment"])
        for hook in request["hooks"]:
            load(hook)()
        code = int(load(request["target"])(request["arguments"]))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    import pyarrow

    pyarrow.array([0])  # the first conversion looks for pandas, which takes half a second
    # Whatever a library prints while it is imported or forked must not end up among the answers.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.stdin, channel)
