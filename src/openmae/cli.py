"""The command line: everything that the verbs share.

`main` finds the verb in the table (`openmae.verbs.VERBS`), parses its flags, starts a process for each device if there
are several, calls the verb and shows its result. Whatever goes wrong becomes one sentence and an exit code.
"""

import atexit
import difflib
import gc
import inspect
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

import openmae
from openmae import reporter, slurm
from openmae.checkpoints.locking import require_locks
from openmae.errors import UserError, WrongUsage
from openmae.recipes.stages import RECIPE_TYPES
from openmae.reporter import Reporter, plain_lines
from openmae.training.processes.launching import (
    ANNOUNCED,
    GRACE,
    have_joined,
    process_rank,
    processes_exist,
    require_startable,
    run_processes,
)
from openmae.training.processes.leaving import leaving_in_order
from openmae.training.processes.stopping import STOPPED, Interrupted
from openmae.verbs import VERBS
from openmae.verbs.flags import ask_tyro, parse
from openmae.verbs.training import run_folder

# torch and its like leave a million objects, in which Python looks for garbage when it ends.
atexit.register(gc.freeze)

DONE, FAILED, WRONG_USAGE = 0, 1, 2
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
DEBUG = "OPENMAE_DEBUG"
SLURM = "slurm"

HELP = """\
openmae: pre-train Vision Transformers on your own unlabelled images with masked autoencoders.

Start here:
  openmae demo                                            the whole story on bundled images, in a few minutes
  openmae pretrain vit-b16-800e --data photos/ --out runs/photos
  openmae reconstruct --weights runs/photos --out picture.png photos/some.jpg
  openmae explore runs/photos                             the same by clicking, in a browser

Verbs (each has --help):
{verbs}

--json prints results for machines, --quiet prints results and errors only. Exit codes: 0 done, 1 failed, 2 wrong usage,
71 another process of the run was lost, 75 stopped by a signal (everything is saved, the same command continues).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(stderr=True, quiet=process_rank() > 0)  # the first of several processes speaks for all
    warnings.formatwarning = _one_line_warning
    try:
        with reporter.use(Reporter(console=console)):
            return _run(arguments, console)
    except WrongUsage as error:
        return _fail(console, str(error), WRONG_USAGE)
    except Interrupted as error:
        command = shlex.join(["openmae", *arguments])
        return _fail(console, f"{error}, everything is saved; to continue: {command}", STOPPED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, and Python would complain about it at exit
        return FAILED
    except KeyboardInterrupt:
        message = "stopped; the same command continues a run from its last checkpoint, and starts anything else over"
        return _fail(console, message, FAILED)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _report(console, error)


def _run(arguments: list[str], console: Console) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs=_list_of_verbs()), end="")
        return DONE if arguments else WRONG_USAGE
    name, words = arguments[0], arguments[1:]
    if name == "--version":
        print(f"openmae {openmae.__version__}")
        return DONE
    if name == SLURM:
        return _submit(words, console)
    if name not in VERBS:
        near = difflib.get_close_matches(name, [*VERBS, SLURM], n=1)
        hint = f"did you mean `openmae {near[0]}`?" if near else "`openmae --help` lists the verbs."
        raise WrongUsage(f"there is no verb called {name!r}; {hint}")
    require_locks()
    verb = VERBS[name]
    call = parse(name, verb.run, words)
    if verb.runs_devices and (code := _run_processes(arguments, call.arguments)) is not None:
        return code
    if call.quiet:
        reporter.current().console = Console(quiet=True)
    if call.note:
        reporter.say(call.note)
    with _standard_output_for_results(), leaving_in_order():
        result = verb.run(**call.arguments)
    code = DONE if verb.passed(result) else FAILED
    if process_rank() > 0:
        return code
    if call.json:
        print(json.dumps(result, indent=1, default=str))
        return code
    for part in verb.show(result):
        if isinstance(part, str):
            print(part)
        else:
            Console().print(part)
    return code


@contextmanager
def _standard_output_for_results() -> Iterator[None]:
    """In one of several processes, send what libraries print within the block to standard error: gloo greets its peers.

    They print from C++, so the file descriptors themselves are exchanged.
    """
    if not processes_exist():
        yield
        return
    sys.stdout.flush()
    ours = os.dup(STANDARD_OUTPUT)
    os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, STANDARD_OUTPUT)
        os.close(ours)


def _list_of_verbs() -> str:
    functions: dict[str, Callable[..., Any]] = {name: verb.run for name, verb in VERBS.items()}
    functions[SLURM] = slurm.submit_training
    docstrings = {name: inspect.getdoc(function) or "" for name, function in functions.items()}
    return "\n".join(f"  {name:12} {docstring.splitlines()[0]}" for name, docstring in docstrings.items())


def _run_processes(words: Sequence[str], arguments: Mapping[str, Any]) -> int | None:
    """Run the command in a process for each device, and return the exit code; None when this process is to run it."""
    recipe = arguments.get("recipe")
    devices, nodes = (arguments.get(name, getattr(recipe, name, 1)) for name in ("devices", "nodes"))
    if devices * nodes == 1 or processes_exist():
        return None
    if recipe is not None:
        require_startable(recipe)
    patience = getattr(recipe, "peer_timeout", 0.0) + GRACE
    return run_processes(words, devices=devices, nodes=nodes, patience=patience)


def _submit(words: Sequence[str], console: Console) -> int:
    """`openmae slurm`: its own flags, and behind them the command of a training."""
    own, training = slurm.split_at_stage(words)
    parameters = [
        parameter
        for parameter in inspect.signature(slurm.submit_training).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    flags = ask_tyro("openmae slurm", parameters, inspect.getdoc(slurm.submit_training) or "", own)
    if not training or training[0] not in RECIPE_TYPES:
        raise WrongUsage(f"which training? `openmae slurm [flags] {'|'.join(RECIPE_TYPES)} RECIPE …`")
    arguments = parse(training[0], VERBS[training[0]].run, training[1:]).arguments
    recipe = arguments["recipe"]
    script, job = slurm.submit_training(recipe, run_folder(recipe, arguments["out"]), training[1:], **flags)
    if job is None:
        print(script.read_text(encoding="utf-8", errors="replace"), end="")
        console.print(f"written to {script}", markup=False, highlight=False, soft_wrap=True)
        return DONE
    log = shlex.quote(str(script.with_name(f"slurm-{job.number}.log")))
    print(f"job {job.number} submitted: {script}")
    print(f"watch:  squeue {job.cluster}--jobs={job.number}\n        tail -F {log}")
    print(f"cancel: scancel {job.cluster}{job.number}")
    return DONE


def _report(console: Console, error: Exception) -> int:
    """Print what went wrong, once for all processes."""
    if isinstance(error, UserError):
        message = str(error)
    elif isinstance(error, OSError):
        message = _explain(error)
    else:
        message = f"{error} ({type(error).__name__}; set {DEBUG}=1 to see where, and please report it)"
    rank = process_rank()
    # Until the processes have joined, all of them find the same error: one of each machine prints it.
    first_of_machine = os.environ.get("LOCAL_RANK", "0") == "0"
    if rank and (first_of_machine or have_joined()) and ANNOUNCED not in getattr(error, "__notes__", []):
        return _fail(Console(stderr=True), f"rank {rank}: {message}", FAILED)
    return _fail(console, message, FAILED)


def _explain(error: OSError) -> str:
    """The file and the reason of the system, such as no space or no permission."""
    if error.strerror is None:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror}; check that the file is there and yours, and that its disk has room"


def _fail(console: Console, message: str, code: int) -> int:
    console.print(f"openmae: {plain_lines(message)}", style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning without the line of code that gives it."""
    return f"openmae: {plain_lines(str(message))}\n"


if __name__ == "__main__":
    sys.exit(main())
