"""The one conversion from what the shell, Python and YAML give to the type that a field or a parameter declares."""

import math
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from openmae.errors import UserError
from openmae.recipes.constraints import Range
from openmae.recipes.values import Every, ImageSize

# YAML 1.1 takes 1e-3 for text, for want of a point and a sign.
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?e[+-]?\d+", re.IGNORECASE | re.ASCII)


class Misfit(Exception):
    """A value is not of the declared type."""


def flag(name: str) -> str:
    """A field or parameter as the command line and every message call it: image_size is --image-size."""
    return f"--{name.replace('_', '-')}"


def convert(label: str, value: object, annotation: Any) -> Any:
    """`value` as the declared type, checked against the ranges that stand beside the type.

    A whole number serves as a fraction, a list as a tuple, a Path as text, text as a Path, and an array or scalar of
    NumPy as numbers. An image size may be 64, (32, 64) or "32x64", and how often something is done may be "5min". All
    else must be of the declared type: "3", 3.0 and True are not whole numbers.

    Args:
        label: The name that messages use, such as --image-size.
        value: From the shell, from Python or from YAML.
        annotation: The declared type with its markers (`openmae.recipes.constraints`). Other metadata is ignored.

    Raises:
        UserError: when the value does not fit; the message says what does.
        TypeError: when the annotation declares something that cannot be checked, such as a range of texts.
    """
    try:
        return _convert(label, value, annotation)
    except Misfit:
        raise UserError(f"{label} must be {describe(annotation)}, not {_shown(value)}") from None


def describe(annotation: Any) -> str:
    """The values of a declared type, as a message names them: "a whole number or None"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, UnionType):
        # Whoever takes both a Path and text wants a path.
        return " or ".join(describe(option) for option in arguments if not (option is str and Path in arguments))
    if origin is Literal:
        choices = [str(choice) for choice in arguments]
        return " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    if origin in (tuple, Sequence):
        count = "" if origin is Sequence or ... in arguments else f"{len(arguments)} "
        # "a number" and "a path" have the plurals "numbers" and "paths".
        return f"a list of {count}{describe(arguments[0]).removeprefix('a ')}s"
    return WORDS.get(annotation) or f"a {annotation.__name__}"


def _convert(label: str, value: object, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _within(label, value, arguments[0], [marker for marker in arguments[1:] if isinstance(marker, Range)])
    if origin in (Union, UnionType):
        return _first_that_fits(label, value, arguments)
    if origin is Literal:
        return _choice(value, arguments)
    if origin in (tuple, Sequence):
        values = _listed(value)
        kinds = [arguments[0]] * len(values) if origin is Sequence or ... in arguments else list(arguments)
        if len(kinds) != len(values):
            raise Misfit
        return tuple(_convert(label, part, kind) for part, kind in zip(values, kinds, strict=True))
    if annotation in CONVERTERS:
        return CONVERTERS[annotation](value)
    if not isinstance(annotation, type):
        raise TypeError(f"{label} is declared as {annotation}, to which nothing can be converted")
    if not isinstance(value, annotation):
        raise Misfit
    return value


def _within(label: str, value: object, annotation: Any, ranges: Sequence[Range]) -> Any:
    if ranges and not _is_numeric(annotation):
        raise TypeError(f"{label} has a range, but is declared as {annotation}, which is no number")
    converted = _convert(label, value, annotation)
    for range_ in ranges:
        if not all(number in range_ for number in _numbers(converted)):
            hint = f"; {range_.hint}" if range_.hint else ""
            raise UserError(f"{label} must {range_.words}, not {converted}{hint}")
    return converted


def _is_numeric(annotation: Any) -> bool:
    """Whether every value of this type, but for None, is a number or a tuple of numbers."""
    if get_origin(annotation) in (Union, UnionType, tuple):
        return all(_is_numeric(part) for part in get_args(annotation) if part not in (NoneType, ...))
    return annotation in (int, float)


def _numbers(value: Any) -> Iterator[float]:
    if value is not None:
        yield from value if isinstance(value, tuple) else (value,)


def _first_that_fits(label: str, value: object, options: Sequence[Any]) -> Any:
    # A Path stays a Path where text is an option too: an exact match goes first.
    for option in sorted(options, key=lambda option: not (isinstance(option, type) and isinstance(value, option))):
        try:
            return _convert(label, value, option)
        except Misfit:
            continue
    raise Misfit


def _choice(value: object, choices: Sequence[object]) -> object:
    value = _plain(value)
    for choice in choices:
        alike = isinstance(value, type(choice)) and isinstance(value, bool) is isinstance(choice, bool)  # True == 1
        if alike and value == choice:
            return choice
    raise Misfit


def _listed(value: object) -> list[Any]:
    value = _plain(value)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | Iterator):
        raise Misfit
    return list(value)


def _plain(value: Any) -> object:
    """The numbers in an array or a scalar of NumPy or torch; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _whole(value: object) -> int:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise Misfit
    number = int(value)
    if abs(number) >= 2**63:  # a mistake, and YAML cannot even print one of some thousand digits
        raise Misfit
    return number


def _fraction(value: object) -> float:
    value = _plain(value)
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise Misfit
    try:
        number = float(value)
    except OverflowError as error:
        raise Misfit from error
    if not math.isfinite(number):
        raise Misfit
    return number


def _truth(value: object) -> bool:
    value = _plain(value)
    if not isinstance(value, bool):
        raise Misfit
    return value


def _text(value: object) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise Misfit
    return str.__str__(value)  # of a subclass, such as NumPy's, the text alone


def _path(value: object) -> Path:
    return Path(_text(value))


def _nothing(value: object) -> None:
    if value is not None:
        raise Misfit


def _image_size(value: object) -> ImageSize:
    if not isinstance(value, str):
        value = _plain(value)
        height, width = _listed(value) if isinstance(value, Sequence) and len(value) == 2 else (value, value)
        value = f"{_whole(height)}x{_whole(width)}"
    try:
        return ImageSize.parse(value)
    except UserError as error:
        raise Misfit from error


def _every(value: object) -> Every:
    if not isinstance(value, str | Every):
        raise Misfit
    try:
        return Every.parse(str(value))
    except (TypeError, ValueError) as error:  # of an Every whose number is none
        raise Misfit from error


CONVERTERS: Mapping[Any, Callable[[object], object]] = MappingProxyType(
    {
        int: _whole,
        float: _fraction,
        bool: _truth,
        str: _text,
        Path: _path,
        NoneType: _nothing,
        ImageSize: _image_size,
        Every: _every,
    }
)
WORDS: Mapping[Any, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        NoneType: "None",
        ImageSize: "an image size (224, or 224x448 for height x width)",
        Every: "a time or a count such as 5min, 200steps or 1epoch",
    }
)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "that"
    return text if len(text) <= 100 else f"{text[:100]}…"
