"""From a verb's signature to its flags: tyro parses them, and a recipe's fields among them."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import tyro

from openmae.errors import UserError, WrongUsage, one_line
from openmae.recipes import RECIPES, Recipe, Stage, find_recipe
from openmae.recipes.recipe import AS_WEIGHTS, declarations
from openmae.recipes.saved import from_yaml
from openmae.recipes.values import Every, ImageSize, as_text
from openmae.recipes.warmup import fit_warmup
from openmae.verbs.automatic_batch import AUTO, NOT_BOTH, take_automatic_batch
from openmae.verbs.repeated import is_given, require_once
from openmae.verbs.verb import convert_arguments, is_positional

RECIPE, RECIPE_FILE, DATA = "recipe", "--recipe-file", "--data"
# No word of a command line can hold it.
BETWEEN_PLACES = "\0"
# The declared type of a recipe's field `data`.
_PLACES_OF_RECIPE = str | tuple[str, ...] | None
POSITIONAL: Any = tyro.conf.Positional
JSON = Annotated[bool, tyro.conf.arg(help="Print the result as JSON.")]
QUIET = Annotated[bool, tyro.conf.arg(help="Print the result and errors only; log.txt of a run has all that is said.")]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A command that was understood.

    Args:
        arguments: of the verb.
        json: whether to print the result as JSON.
        quiet: whether to print nothing but the result and errors.
        note: a sentence for the user about the arguments; "" when there is nothing to say.
    """

    arguments: dict[str, Any]
    json: bool
    quiet: bool = False
    note: str = ""


def parse(name: str, function: Callable[..., Any], words: Sequence[str]) -> Call:
    """Parse what follows `openmae NAME`. Prints the help and exits when that is asked for.

    Raises:
        WrongUsage: when the words do not fit the signature. tyro prints what it finds wrong itself, and exits with 2.
    """
    parameters = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    text = inspect.getdoc(function) or ""
    stage = _stage_of(parameters)
    if stage is not None:
        if words[:1] in (["-h"], ["--help"]):
            print(_help_of_stage(name, stage, text, out=any(one.name == "out" for one in parameters)))
            raise SystemExit(0)
        recipe, words = _take_recipe(stage, words)
        words, automatic = take_automatic_batch(recipe, words)
        name, text = f"{name} {recipe.name}", f"{recipe.name}: {describe(recipe)}\n\n{text}"
        fields: Any = Annotated[type(recipe), tyro.conf.arg(help=inspect.getdoc(recipe))]
        parameters = [_flag(RECIPE, fields, recipe) if one.name == RECIPE else one for one in parameters]
    words = _places_in_one_word(words)
    takes_several = sum(map(is_positional, parameters)) == 1
    for_shell = [_for_shell(one, takes_several=takes_several) for one in parameters]
    everywhere = [_flag("json", JSON, False), _flag("quiet", QUIET, False)]
    found = ask_tyro(f"openmae {name}", [*for_shell, *everywhere], text, words)
    json, quiet, note = found.pop("json"), found.pop("quiet"), ""
    if stage is not None:
        fitted = fit_warmup(found[RECIPE], named=recipe, given=is_given("warmup_epochs", words))
        if fitted.recipe != found[RECIPE]:  # else the verb says it, to callers from Python too
            found[RECIPE], note = fitted
    for one in parameters:
        if takes_several and is_positional(one) and _with_path_text(one.annotation) is _PlacesText:
            if not found[one.name]:
                raise WrongUsage(f"which {one.name}? `openmae {name} --help` explains what to give")
            found[one.name] = as_text(found[one.name])
    try:
        arguments = convert_arguments(function, found)
    except UserError as error:
        raise WrongUsage(f"{error} (`openmae {name} --help` explains every flag)") from error
    if stage is not None and recipe.backbone == AS_WEIGHTS:
        # Whether a value was given or is the recipe's decides whether it follows from the weights.
        arguments |= {
            field: getattr(found[RECIPE], field) for field in declarations(type(recipe)) if is_given(field, words)
        }
    if stage is not None and automatic:
        if is_given("accumulate", words):
            raise WrongUsage(NOT_BOTH)
        arguments["batch_size"] = AUTO
    return Call(arguments=arguments, json=json, quiet=quiet, note=note)


def ask_tyro(program: str, parameters: Sequence[inspect.Parameter], text: str, words: Sequence[str]) -> dict[str, Any]:
    """The values of these parameters in the words. The text is the docstring of which the help is made.

    Raises:
        WrongUsage: when a flag is given twice, and may not be.
    """
    require_once(words, parameters)

    def command(**values: Any) -> dict[str, Any]:
        return values

    command.__dict__["__signature__"] = inspect.Signature(list(parameters))
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = text
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_written_in_one_word)
    return tyro.cli(command, prog=program, args=list(words), config=(tyro.conf.OmitArgPrefixes,), registry=registry)


def describe(recipe: Recipe) -> str:
    """A recipe in one sentence."""
    published = f"; published top-1 {recipe.published_top1} ({recipe.published_by})" if recipe.published_top1 else ""
    note = f"; {recipe.note}" if recipe.note else ""
    network = "the network of --weights" if recipe.backbone == AS_WEIGHTS else recipe.backbone
    return f"{recipe.stage} of {network}, {recipe.epochs} epochs, batch {recipe.batch_size}{published}{note}."


def _places_in_one_word(words: Sequence[str]) -> list[str]:
    """The words with all places of `--data a --data b` and `--data a b` in one word behind one --data."""
    kept: list[str] = []
    places: list[str] = []
    takes_places = False
    for word in words:
        name, is_written_together, value = word.partition("=")
        if word.startswith("-") and not _is_number(word):
            takes_places = name == DATA
            if takes_places:
                places += [value] if is_written_together else []
            else:
                kept.append(word)
        else:
            (places if takes_places else kept).append(word)
    if places or any(word.partition("=")[0] == DATA for word in words):
        kept += [DATA, *([BETWEEN_PLACES.join(places)] if places else [])]
    return kept


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _split_places(word: str) -> str | tuple[str, ...]:
    places = tuple(word.split(BETWEEN_PLACES))
    return places[0] if len(places) == 1 else places


def _stage_of(parameters: Sequence[inspect.Parameter]) -> Stage | None:
    """The stage of the recipes that a verb takes; None for a verb without a recipe."""
    kinds = [kind for one in parameters if one.name == RECIPE for kind in get_args(one.annotation)]
    return next((kind.stage for kind in kinds if issubclass(kind, Recipe)), None)


def _help_of_stage(verb: str, stage: Stage, text: str, *, out: bool) -> str:
    weights = "" if stage == "pretrain" else " --weights RUN"
    first, second = (" --out RUN", " --out RUN2") if out else ("", "")
    names = [recipe.name for recipe in RECIPES.values() if recipe.stage == stage]
    return "\n".join(
        [
            f"usage: openmae {verb} RECIPE{weights} --data D{first} [--any-field-of-the-recipe VALUE]",
            f"       openmae {verb} {RECIPE_FILE} RUN/recipe.yaml{second}",
            "",
            text.partition("\n")[0],
            f"`openmae {verb} RECIPE --help` explains every field of a recipe and its value there.",
            "",
            "recipes:",
            *(f"  {name}" for name in names),
        ]
    )


def _take_recipe(stage: Stage, words: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe that the words name, by the first of them or by --recipe-file, and the rest of them."""
    words = [part for word in words for part in _separated(word)]
    if words.count(RECIPE_FILE) > 1:
        raise WrongUsage(f"{RECIPE_FILE} is given {words.count(RECIPE_FILE)} times; give it once")
    if RECIPE_FILE in words:
        place = words.index(RECIPE_FILE)
        if place + 1 == len(words):
            raise WrongUsage(f"{RECIPE_FILE} needs the path of a recipe.yaml; a run folder has one")
        return _read_recipe(stage, Path(words[place + 1])), words[:place] + words[place + 2 :]
    if not words or words[0].startswith("-"):
        raise WrongUsage(f"which recipe? `openmae {stage} NAME …`; `openmae recipes` lists them")
    return find_recipe(words[0], stage), words[1:]


def _separated(word: str) -> list[str]:
    """--recipe-file=FILE as two words; any other word as it is."""
    return word.split("=", 1) if word.startswith(f"{RECIPE_FILE}=") else [word]


def _read_recipe(stage: Stage, file: Path) -> Recipe:
    if not file.is_file():
        raise WrongUsage(f"there is no recipe file {file}; a run folder has one as recipe.yaml")
    try:
        recipe = from_yaml(file.read_text(encoding="utf-8"))
    except UserError as error:
        raise WrongUsage(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file} cannot be read ({one_line(error)}); give the recipe.yaml of a run folder") from error
    if recipe.stage != stage:
        raise WrongUsage(f"{file} is a recipe for {recipe.stage}; use `openmae {recipe.stage}`")
    return recipe


class _PathText(str):
    """Stands for `str | Path`: the shell gives text, for a Path would spoil the slashes of a URL."""


class _PlacesText(str):
    """Stands for `Places`: `--data a --data b` is one word when tyro reads it."""


def _for_shell(parameter: inspect.Parameter, *, takes_several: bool = False) -> inspect.Parameter:
    """A parameter as tyro is to see it. `takes_several`: one that is given by its place may be several words."""
    annotation, default = _with_path_text(parameter.annotation), parameter.default
    if annotation is _PathText and isinstance(default, str):
        default = _PathText(default)
    if is_positional(parameter):
        name = parameter.name.upper()
        if annotation is _PlacesText and takes_several:
            annotation = tuple[_PathText, ...]
        metavar = f"[{name} ...]" if get_origin(annotation) is tuple else name
        annotation = POSITIONAL[Annotated[annotation, tyro.conf.arg(metavar=metavar)]]
    return _flag(parameter.name, annotation, default)


def _flag(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _with_path_text(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType) and any(get_origin(argument) is Sequence for argument in arguments):
        return _PlacesText | None if NoneType in arguments else _PlacesText
    if origin in (Union, UnionType) and {str, Path} <= set(arguments):
        return _PathText | None if NoneType in arguments else _PathText
    if origin is Sequence:
        return tuple[(*map(_with_path_text, arguments), ...)]  # type: ignore[misc]
    return annotation


def _written_in_one_word(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """How tyro reads and shows a path, and the values of a recipe that have a notation of their own."""
    readers: dict[Any, tuple[str, Callable[[str], Any]]] = {
        _PathText: ("PATH", _PathText),
        _PlacesText: ("PATH", _split_places),
        _PLACES_OF_RECIPE: ("PATH", _split_places),
        ImageSize: ("SIZE", ImageSize.parse),
        Every: ("EVERY", Every.parse),
    }
    if info.type not in readers:
        return None
    metavar, read = readers[info.type]
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, (str, tuple) if metavar == "PATH" else info.type),
        str_from_instance=lambda value: [f" {DATA} ".join(value) if type(value) is tuple else str(value)],
    )
