"""A report as a page without a form: headings, sentences, tables, charts, in the order in which they are read.

HTML, Markdown and the terminal lay out the same page, so that all say the same. Not here: what stands in the
sections (`sections`, `telling`), any form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from daulat.evaluate.comparing import Comparison
from daulat.evaluate.plots import Chart
from daulat.evaluate.reports.figures import Cell, Tone

Prominence = Literal["main", "small"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading. `figure`: it holds figures, which stand to the right."""

    head: str
    figure: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Cells in rows, each as long as `columns`. The first cell of a row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart. `note`: how it is to be read."""

    chart: Chart
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        lead: sentences ahead of the tables. `notes`: small print behind them.
        pairs: names with their values.
    """

    id: str
    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    prominence: Prominence = "main"


@dataclass(frozen=True, slots=True)
class Reply:
    """One endpoint's answer to an example. `facts`: score, cost, time; `text`: None: there is none."""

    name: str
    facts: tuple[str, ...]
    text: str | None
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Case:
    """An example with its answers side by side."""

    title: str
    prompt: str
    references: tuple[str, ...]
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        about: what was compared, when: small facts under the title.
        answer: the sentence that says it all. `tone`: whether it is a clear one.
        basis: the figures that it rests on.
        cautions: what to know before using it.
        sections: before the cases; `closing`: behind them.
    """

    comparison: Comparison
    language: str
    title: str
    about: tuple[str, ...]
    answer: str
    tone: Tone
    basis: tuple[str, ...]
    cautions: tuple[str, ...]
    sections: tuple[Section, ...]
    cases_title: str
    cases: tuple[Case, ...]
    closing: tuple[Section, ...]
