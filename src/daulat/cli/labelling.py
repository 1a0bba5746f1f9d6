"""Labelling at the keyboard: one thing after the other, a key for each label.

Not here: options (`label`), who is asked what (`evaluate.labels`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Generator, Iterator
from typing import Final

import click

from daulat.cli import say
from daulat.cli.words import _, plural
from daulat.errors import RequestError
from daulat.evaluate.labels.desk import Desk
from daulat.evaluate.labels.sheet import Item

Typed = Callable[[], str]
"""The next thing that the person types."""

_PAIRWISE: Final = {"1": 1.0, "2": 0.0, "0": 0.5, "=": 0.5}
_WIDEST: Final = 100


def at_the_keyboard(desk: Desk) -> None:
    """Show what is to be labelled and take keys until all is labelled or the person leaves.

    Raises:
        RequestError: nobody is at a keyboard.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RequestError(
            "Labels are given at a terminal: run the command there, or label in the browser with --browser."
        )
    _greet(desk)
    with _keyboard(_single(desk)) as typed:
        whole = _label(desk, typed)
    _end(desk, whole=whole)


def _label(desk: Desk, typed: Typed) -> bool:
    """Whether all is labelled."""
    item = desk.next()
    while item is not None:
        _show(desk, item)
        shown = time.monotonic()
        pressed = _key(desk, typed)
        if pressed == "q":
            return False
        if pressed == "u":
            item = desk.undo() or item
            continue
        desk.put(item, _value(desk, pressed), time.monotonic() - shown)
        item = desk.next()
    return True


def _greet(desk: Desk) -> None:
    asked, sheet = desk.session, desk.sheet
    click.echo(
        _("{task}: {drawn} of {of} examples, drawn at random. You are {by}.").format(
            task=sheet.name,
            drawn=min(asked.drawn, len(sheet.outcomes)),
            of=len(sheet.outcomes),
            by=asked.by,
        )
    )
    if sheet.left_out:
        say.note(
            plural(
                "{count} example lacks an answer and is left out.",
                "{count} examples lack an answer and are left out.",
                sheet.left_out,
            )
        )


def _show(desk: Desk, item: Item) -> None:
    now = desk.progress()
    click.clear()
    _rule(_("{number} of {all}").format(number=now.done + 1, all=now.all))
    _part(_("The request"), item.prompt)
    if item.references:
        _part(_("What is known to be right"), "\n\n".join(item.references))
    if len(item.answers) == 1:
        _part(_("The answer"), item.answers[0])
    else:
        for number, answer in enumerate(item.answers, 1):
            _part(_("Answer {number}").format(number=number), answer)
    _rule("")
    click.echo(_keys(desk))


def _rule(title: str) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    head = f"── {title} " if title else ""
    click.echo(click.style(head + "─" * max(0, width - len(head)), dim=True))


def _part(title: str, text: str) -> None:
    # A model's text must not be able to steer the terminal.
    body = say.plain(text).strip() or click.style(_("(empty)"), dim=True)
    click.echo(f"{click.style(title, bold=True)}\n{body}\n")


def _keys(desk: Desk) -> str:
    rest = [_("s cannot tell"), _("u take the last one back"), _("q leave")]
    if desk.session.kind == "pairwise":
        given = [_("1 the first is better"), _("2 the second is better"), _("0 equally good")]
    else:
        given = [_("{scale} points, the higher the better").format(scale=desk.session.scale)]
        given += [] if _single(desk) else [_("Enter behind them")]
    return " · ".join([*given, *rest])


def _single(desk: Desk) -> bool:
    """Whether a label is one key."""
    return desk.session.kind == "pairwise" or desk.session.scale.high < 10


def _key(desk: Desk, typed: Typed) -> str:
    """What was typed: s, u, q, or a label."""
    labels = set(_PAIRWISE) if desk.session.kind == "pairwise" else _points(desk)
    while True:
        said = typed().strip().lower()
        if said in ("s", "u", "q") or said in labels:
            return said


@contextlib.contextmanager
def _keyboard(single: bool) -> Generator[Typed]:
    """What the person types: key by key without Enter, or line by line. The end of input is `q`."""
    if not single:
        yield _line
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    # For all of the session: what is typed while the next answer is drawn is neither echoed nor lost.
    tty.setcbreak(descriptor, termios.TCSADRAIN)
    try:
        yield _keys_of(descriptor).__next__
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _keys_of(descriptor: int) -> Iterator[str]:
    while True:
        data = os.read(descriptor, 64)
        if not data:
            yield "q"
        # An arrow or a function key comes as several characters: it is none of ours.
        elif not data.startswith(b"\x1b"):
            yield from ("q" if key == "\x04" else key for key in data.decode(errors="replace"))


def _line() -> str:
    try:
        return input("> ")
    except EOFError:
        return "q"


def _points(desk: Desk) -> set[str]:
    return {str(value) for value in desk.session.scale.values}


def _value(desk: Desk, pressed: str) -> float | None:
    if pressed == "s":
        return None
    if desk.session.kind == "pairwise":
        return _PAIRWISE[pressed]
    return desk.session.scale.unit(int(pressed))


def _end(desk: Desk, *, whole: bool) -> None:
    now = desk.progress()
    click.clear()
    if whole:
        click.echo(_("All {count} are labelled. Thank you.").format(count=now.all))
    else:
        click.echo(
            _("{done} of {all} are labelled; the same command goes on.").format(
                done=now.done, all=now.all
            )
        )
    if now.automatic:
        click.echo(
            plural(
                "{count} needed nobody: the answers were the same.",
                "{count} needed nobody: the answers were the same.",
                now.automatic,
            )
        )
    click.echo(_("What the labels say: daulat label {task} --report").format(task=desk.sheet.name))
