"""The common part of all verbs, from the shell or from Python: arguments are converted, and one process speaks."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from openmae.recipes.conversion import convert, flag
from openmae.reporter import Reporter, use
from openmae.reporting.results import Shown, show_values
from openmae.training.processes.launching import process_rank

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Verb(Generic[R]):
    """A line of the table of verbs.

    Args:
        run: the function. Its signature and docstring are the Python API, the flags and the help.
        show: how people see its result; `--json` prints the result itself.
        passed: whether the result is a success; the command ends with an error code if not.
        runs_devices: whether it is run in a process for each of the `devices` that it is given.
    """

    run: Callable[..., R]
    show: Callable[[R], Iterable[Shown]] = show_values
    passed: Callable[[R], bool] = lambda _: True
    runs_devices: bool = True


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """A verb for Python: converts and checks the arguments before the call, and prints in the first process only.

    Raises:
        UserError: when an argument does not fit its annotation; the message names it.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.arguments |= convert_arguments(function, bound.arguments)
        if process_rank() == 0:
            return function(*bound.args, **bound.kwargs)
        with use(Reporter(quiet=True)):
            return function(*bound.args, **bound.kwargs)

    return checked


def convert_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the function declares them. `**fields` are left to the recipe that they belong to.

    Raises:
        UserError: when one does not fit; the message names it as the shell does.
    """
    parameters = inspect.signature(function).parameters
    return {
        name: convert(label(parameters[name]), value, parameters[name].annotation)
        for name, value in arguments.items()
        if parameters[name].kind is not inspect.Parameter.VAR_KEYWORD
    }


def is_positional(parameter: inspect.Parameter) -> bool:
    """Whether the shell takes it by its place; all other parameters are flags."""
    return parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def label(parameter: inspect.Parameter) -> str:
    """A parameter as messages call it: --batch-size, or just the name of one that is given by its place."""
    return parameter.name if is_positional(parameter) else flag(parameter.name)
