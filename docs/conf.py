"""The site of the documentation: `make docs` builds it into build/docs, and fails on any warning.

Two tables are not written by hand: the functions and the fields of the recipes come from the code, wherever a page says
`<!-- verbs -->` or `<!-- fields: PretrainRecipe -->`.
"""

import dataclasses
import inspect
import re
import typing
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from tyro.conf import Suppress

import openmae
from openmae.recipes import recipe, stages
from openmae.recipes.constraints import NO_EFFECT_ON_RESULTS, Range
from openmae.recipes.conversion import flag
from openmae.verbs import VERBS

project = "OpenMAE"
author = "The OpenMAE developers"
release = version = openmae.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
highlight_language = "sh"  # a block without a language is a command
smartquotes = False  # flags begin with two hyphens, and quotation marks in examples are Python's
default_role = "code"  # docstrings write names in single backticks, as Markdown does

html_theme = "furo"  # it asks no other server for fonts or scripts
html_title = "OpenMAE"
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4  # headings are linked to as on a code host
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!openmae\.\w+$).*")]  # types that are not public names are not described here
linkcheck_anchors = False  # code hosts make them by script
linkcheck_timeout = 20

autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-before-process-signature", plain_annotations)
    app.connect("autodoc-process-docstring", flags_as_code)
    app.connect("doctree-read", with_dashes)


def fill_in(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Put what the code says into a page, in the place of its marks."""
    source[0] = source[0].replace("<!-- verbs -->", verbs())
    source[0] = re.sub(r"<!-- fields: (\w+) -->", lambda found: table_of_fields(found[1]), source[0])


def verbs() -> str:
    """A description of each verb that is a function of the package, in the order of the table."""
    functions = [verb.run.__name__ for name, verb in VERBS.items() if verb.run.__name__ == name.replace("-", "_")]
    directives = "\n".join(f".. autofunction:: openmae.{name}" for name in functions)
    return f"```{{eval-rst}}\n{directives}\n```"


def table_of_fields(name: str) -> str:
    """The fields that a class of recipes declares itself: flag, default, and the line that is the flag's help."""
    module = recipe if name == "Recipe" else stages
    kind = getattr(module, name)
    comments = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    hints = typing.get_type_hints(kind, include_extras=True)
    rows = ["| flag | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        if field.name not in kind.__annotations__ or Suppress in getattr(hints[field.name], "__metadata__", ()):
            continue
        marks = getattr(hints[field.name], "__metadata__", ())
        ranges = [re.sub("^(be|lie) ", "", mark.words) for mark in marks if isinstance(mark, Range)]
        notes = [*ranges, *(["changes no result"] if NO_EFFECT_ON_RESULTS in marks else [])]
        text = " ".join(comments[name, field.name]).strip()
        text += f" ({', '.join(notes)})" if notes else ""
        rows.append(f"| `{flag(field.name)}` | {default_of(field)} | {as_cell(text)} |")
    return "\n".join(rows)


def default_of(field: "dataclasses.Field[Any]") -> str:
    """A default as the shell takes it; empty where each recipe says its own."""
    if field.default is dataclasses.MISSING:
        return "the recipe's"
    if field.default is None or field.default == ():
        return ""
    values = field.default if type(field.default) is tuple else (field.default,)
    return f"`{' '.join(map(str, values))}`"


def as_cell(text: str) -> str:
    """Text of a docstring in a cell of a Markdown table, its flags and formulas as code."""
    return re.sub(
        r"([|*_<])|(--[a-z][a-z-]+|\w+_lr\b[^.;]*)",
        lambda found: f"\\{found[1]}" if found[1] else f"`{found[2]}`",
        text,
    )


def flags_as_code(_app: Sphinx, _what: str, _name: str, _documented: Any, _options: Any, lines: list[str]) -> None:
    """Write the flags that a docstring names as code."""
    for place, line in enumerate(lines):
        lines[place] = re.sub(r"`[^`]*`|(--[a-z][a-z-]+)", lambda at: f"`{at[1]}`" if at[1] else at[0], line)


def with_dashes(_app: Sphinx, document: nodes.document) -> None:
    """Between a parameter and its description Sphinx writes two hyphens."""
    for text in list(document.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def plain_annotations(_app: Sphinx, documented: Any, _bound: bool) -> None:
    """Take ranges and the like out of a function's annotations: readers want `int`, and the text says the rest."""
    if inspect.isfunction(documented):
        for function in (documented, inspect.unwrap(documented)):
            function.__annotations__ = {name: plain(hint) for name, hint in function.__annotations__.items()}


def plain(hint: Any) -> Any:
    """An annotation without its metadata; as it is where it is text."""
    if isinstance(hint, str):
        return hint

    def annotated() -> None: ...

    annotated.__annotations__ = {"hint": hint}
    return typing.get_type_hints(annotated)["hint"]
