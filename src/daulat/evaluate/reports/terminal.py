"""A report on a terminal: the answer, what to be careful about, and the tables. Examples stand in the files.

Not here: what is said (`sections`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from daulat.evaluate.comparing import Comparison
from daulat.evaluate.reports.figures import Cell, Tone
from daulat.evaluate.reports.page import Page, Section, Table
from daulat.evaluate.reports.sections import build

_TONES: Final[Mapping[Tone, str]] = {"good": "green", "bad": "red", "quiet": "dim", "": ""}
_HEAD: Final = 14
_SHORT: Final = 9
"""Letters of a heading in one line, where there is little room, or less."""
_ANY: Final = 10_000


def show(comparison: Comparison, language: str, console: Console) -> None:
    """Print a report."""
    page = build(comparison, language)
    console.print(
        Text(page.title, style="bold"), Text(" · ".join(page.about), style="dim"), sep="\n"
    )
    _answer(page, console)
    for section in page.sections:
        show_section(section, console)


def _answer(page: Page, console: Console) -> None:
    text = Text(page.answer, style="bold")
    if page.basis:
        text.append("\n" + " · ".join(page.basis), style="not bold dim")
    colour = "green" if page.tone == "good" else "yellow"
    console.print(Panel(text, border_style=colour, padding=(0, 1)))
    for caution in page.cautions:
        console.print(Padding(Text("! " + caution, style="yellow"), (0, 0, 0, 1)))


def show_section(section: Section, console: Console) -> None:
    """Print a part of a report."""
    console.print()
    console.print(Text(section.title, style="bold underline"))
    for sentence in section.lead:
        console.print(Padding(Text(sentence, style="dim"), (0, 0, 0, 1)))
    for table in section.tables:
        if len(section.tables) > 1:
            console.print(Padding(Text(table.caption, style="italic"), (1, 0, 0, 1)))
        _table(table, console)
    for note in section.notes:
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 1)))


def _table(table: Table, console: Console) -> None:
    """In the first form that fits: figures on one line, on two, closer together, or a block for each row."""
    for stacked, letters, apart in ((False, _ANY, 2), (True, _HEAD, 2), (True, _SHORT, 1)):
        grid = _grid(table, stacked, letters, apart)
        if (
            console.measure(grid, options=console.options.update(max_width=_ANY)).maximum
            <= console.width
        ):
            console.print(grid)
            return
    for row in table.rows:
        console.print(Padding(Text(row[0].text, style="bold"), (1, 0, 0, 1)))
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            line = Text(f"{column.head}: ", style="dim").append(_text(cell, " "))
            console.print(Padding(line, (0, 0, 0, 3)))


def _grid(table: Table, stacked: bool, letters: int, apart: int) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False, padding=(0, apart, 0, 0))
    for column in table.columns:
        head = textwrap.fill(column.head, letters, break_long_words=False)
        grid.add_column(Text(head), justify="right" if column.figure else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(_text(cell, "\n" if stacked else " ") for cell in row))
    return grid


def _text(cell: Cell, between: str) -> Text:
    text = Text(cell.text, style=_TONES[cell.tone])
    if not cell.interval:
        return text
    interval = cell.interval if between == "\n" else f"({cell.interval})"
    return text.append(between + interval, style="not bold dim")
