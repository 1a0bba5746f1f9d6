"""A report as one HTML file that stands alone: no scripts, nothing loaded, light and dark, paper.

Everything goes through a sandboxed template that escapes. Not here: what is said (`sections`).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from daulat.evaluate.plots import NARROW, WIDE, Chart, draw
from daulat.evaluate.reports.page import Page
from daulat.evaluate.reports.words import Words

FOLDED: Final = 600
LINES: Final = 12
"""A text of more characters or lines is folded behind its beginning."""
FIRST: Final = 4
"""So many examples are shown, the others on demand."""
LONGEST: Final = 20_000
"""Characters of a text that are shown; report.json has all."""


def html(page: Page) -> str:
    """The document."""
    say = Words(page.language)
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            say=say,
            plural=say.plural,
            style=_style(),
            drawings=_drawings,
            cut=_cut,
            first=FIRST,
        )
    )


@cache
def _environment() -> Environment:
    return ImmutableSandboxedEnvironment(
        loader=PackageLoader("daulat.evaluate.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> Markup:
    sheet = files("daulat.evaluate.reports") / "templates" / "report.css"
    return Markup(sheet.read_text(encoding="utf-8"))  # noqa: S704 - a file of our own


def _drawings(chart: Chart, name: str) -> tuple[tuple[str, Markup], ...]:
    """A chart for each width of page, with the class of it. `draw` escapes what it is given."""
    widths = (("wide", WIDE), ("narrow", NARROW))
    return tuple(
        (kind, Markup(draw(chart, width, f"{name}-{kind}")))  # noqa: S704
        for kind, width in widths
    )


def _cut(text: str) -> tuple[str, str | None, int]:
    """The beginning of a text, the whole of it where it is longer, and how many characters are not shown."""
    text = text.strip()
    lines = text.split("\n", LINES)
    if len(text) <= FOLDED and len(lines) <= LINES:
        return text, None, 0
    beginning = "\n".join(lines[: LINES // 2])[: FOLDED // 2]
    whole_words = beginning.rsplit(None, 1)[0] if " " in beginning else beginning
    return whole_words, text[:LONGEST], max(0, len(text) - LONGEST)
