"""How results look: tables, figures, a progress bar.

Standard output is for results, all else goes to standard error, so that a pipe gets results only.

Not here: what is said.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import click

from daulat.cli.words import _
from daulat.values.plain import plain as plain  # noqa: PLC0414 - said from here, too

# Wide enough that a pipe never gets a cut cell.
_PIPE_WIDTH = 1000
_MIB = 1 << 20


def note(text: str) -> None:
    """A remark beside the result."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """A remark that must not be missed."""
    label = click.style(_("Warning:"), fg="yellow", bold=True)
    click.echo(f"{label} {text}", err=True)


def as_json(value: Any) -> None:
    """A value for other programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Rows under headings. On a terminal they fold to its width; in a pipe a row is a line.

    Args:
        right: the numbers of the columns that are set to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PIPE_WIDTH, highlight=False)
    shown = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        # Text and not markup: names and settings may hold brackets.
        shown.add_row(*(Text(plain(cell)) for cell in row))
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names with their values, one a line."""
    width = max((len(name) for name, _value in rows), default=0)
    for name, value in rows:
        first, *rest = plain(value).split("\n")
        click.echo(f"{name:{width}}  {first}".rstrip())
        for line in rest:
            click.echo(f"{'':{width}}  {line}".rstrip())


def size(count: int) -> str:
    """Bytes as MiB or GiB."""
    if count < _MIB:
        return f"{count / 1024:.1f} KiB"
    return f"{count / _MIB:.1f} MiB" if count < 1024 * _MIB else f"{count / (1024 * _MIB):.2f} GiB"


@contextlib.contextmanager
def progress(label: str) -> Generator[Callable[[int, int], None], None, None]:
    """A bar on standard error, fed with (bytes done, bytes in all); silent where no terminal is."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
