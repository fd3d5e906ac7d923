"""The page: its facts, and the templates that lay them out, which escape whatever is not our own text."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from openmae.reporting.report.classes import Classes, Mistakes
from openmae.reporting.report.data_set import DataSet
from openmae.reporting.report.looking import Looks
from openmae.reporting.report.measured import Row
from openmae.reporting.report.missing import Missing
from openmae.reporting.report.over_time import Frames
from openmae.reporting.report.reproducing import Repeating
from openmae.reporting.report.run_lines import RunLine
from openmae.reporting.report.summary import Summary

PACKAGE = "openmae.reporting.report"
HTML, MARKDOWN, MARKDOWN_KIND = "page.html.jinja", "summary.md.jinja", "md.jinja"
SPECIAL = re.compile(r"([\\`*_{}\[\]!|<>~&$]|^[-+=#])")
"""What GitHub's Markdown gives a meaning: within a line, and at the beginning of a text."""
MENTION = re.compile(r"[@#](?=\w)")


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the page shows. A part that is None or empty is left out.

    Args:
        title: of the page.
        made: when, and by which version.
        runs: the runs whose curves are shown; the first is the one that everything else is about.
        summary: in plain words.
        curves: a Vega-Lite chart; `axes` are the axes that it can have.
        beside: what is laid under the curves, in words.
        frames: reconstructions over time; `frames_note` says where they are from.
        looks: what the network makes of `sample`, in words.
        map: a Vega-Lite chart.
        rows: of the table of measurements.
        classes, mistakes: of one classifier.
        data: the data set.
        repeating: environment, recipe and commands.
        missing: the parts that are left out.
    """

    title: str
    made: str
    runs: list[RunLine]
    summary: Summary
    curves: dict[str, Any] | None
    axes: list[str]
    beside: str
    frames: Frames | None
    frames_note: str
    looks: Looks | None
    sample: str
    map: dict[str, Any] | None
    rows: list[Row]
    classes: Classes | None
    mistakes: Mistakes | None
    data: DataSet
    repeating: Repeating
    missing: list[Missing]

    @property
    def sections(self) -> list[str]:
        """The names of the parts that are there, which are also their places in the page."""
        looks = self.looks
        there = {
            "summary": True,
            "runs": len(self.runs) > 1,
            "curves": self.curves is not None,
            "reconstructions": self.frames is not None,
            "gallery": looks is not None and looks.gallery is not None,
            "features": looks is not None and bool(looks.looks),
            "map": self.map is not None,
            "neighbours": looks is not None and bool(looks.queries),
            "measurements": bool(self.rows),
            "classes": self.classes is not None,
            "mistakes": self.mistakes is not None and bool(self.mistakes.worst),
            "data": True,
            "repeating": True,
        }
        return [name for name, is_there in there.items() if is_there]

    @property
    def charts(self) -> dict[str, Any]:
        """The charts by the name of their place in the page."""
        return {name: chart for name, chart in (("curves", self.curves), ("map", self.map)) if chart is not None}


def as_html(page: Page) -> str:
    """The page as one HTML file, which loads nothing: its policy forbids every request, and every script but ours."""
    charts = page.charts
    scripts = {"vega": chart_library() if charts else "", "page": _own("report.js")}
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts.values() if script)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    template = _environment().get_template(HTML)
    return template.render(page=page, charts=charts, policy=policy, style=_own("report.css"), scripts=scripts)


def as_markdown(page: Page, html_name: str) -> str:
    """The summary and the tables in GitHub's Markdown."""
    environment = _environment(finalize=escape_markdown, keep_trailing_newline=True)
    environment.filters["fenced"] = fenced
    return environment.get_template(MARKDOWN).render(page=page, html_name=html_name)


def _environment(**options: Any) -> Environment:
    """Of templates in which text is escaped, but for those in Markdown, whose text goes through `finalize`."""
    return Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=select_autoescape(disabled_extensions=(MARKDOWN_KIND,), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


class Markdown(str):
    """Text that is Markdown, and stands in it as it is."""

    __slots__ = ()


def escape_markdown(value: Any) -> Any:
    """Text in which no character has a meaning, on one line; anything else as it is.

    >>> escape_markdown("<b>|a_b")
    '\\\\<b\\\\>\\\\|a\\\\_b'
    """
    if isinstance(value, Markdown) or not isinstance(value, str):
        return value
    # A backslash stops no mention of a person or an issue; nothing between the sign and the name does.
    return MENTION.sub(r"\g<0><!-- -->", SPECIAL.sub(r"\\\1", " ".join(value.split())))


def fenced(text: str) -> Markdown:
    """A block of code, whose fence is longer than any row of backticks in it: nothing ends it but a longer one."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}\n{text}\n{fence}")


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets `vegaEmbed`.

    Raises:
        AssertionError: when it could end the element that it stands in.
    """
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("\r\n", "\n")
    assert not re.search(r"</script|<!--", script, re.IGNORECASE)
    return script


def _own(name: str) -> str:
    return (files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
