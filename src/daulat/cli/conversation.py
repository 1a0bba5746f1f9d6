"""The conversation at the keyboard: prompts, commands, history; and the one question of a pipe.

Not here: who answers (`talk`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import click

from daulat.cli import say
from daulat.cli.ending import Talk
from daulat.cli.words import _, plural
from daulat.errors import DaulatError, RequestError, TooLargeError
from daulat.values.request import Message, Sampling

_PROMPT: Final = ">>> "
_MORE: Final = "... "
_BLOCK: Final = '"""'
_LONGEST_HISTORY: Final = 1000
_LARGEST_PIPE: Final = 4 << 20  # bytes


@dataclass(slots=True)
class State:
    """What the next question is asked with."""

    model: str
    system: str | None
    sampling: Sampling
    messages: list[Message] = field(default_factory=list[Message])

    def with_question(self, text: str) -> tuple[Message, ...]:
        head = [Message("system", self.system)] if self.system else []
        return (*head, *self.messages, Message("user", text))


def answer_pipe(talk: Talk, state: State, source: IO[bytes]) -> None:
    """Answer what standard input holds; nothing but the answer is printed.

    Raises:
        DaulatError: there is no question, or no answer.
    """
    data = source.read(_LARGEST_PIPE + 1)
    if len(data) > _LARGEST_PIPE:
        raise TooLargeError(f"A question may have {_LARGEST_PIPE} bytes; this one is longer.")
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RequestError("The question is not UTF-8 text: convert it first.") from error
    if not text:
        raise RequestError("There is no question: write one to standard input.")
    talk.answer(state.model, state.with_question(text), state.sampling, _print)
    click.echo()


def hold(talk: Talk, state: State, history: Path) -> None:
    """Ask and answer until the person leaves."""
    click.echo(_("You talk with {model}. /help lists what you can do.").format(model=state.model))
    with _history(history):
        while True:
            try:
                text = _read()
                if text.startswith("/") and "\n" not in text:
                    _obey(talk, state, text)
                elif text:
                    _ask(talk, state, text)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo("\n" + _("/quit or Ctrl-D ends the conversation."))
            except DaulatError as error:
                click.echo(_("Error: {message}").format(message=error.message), err=True)


def _read() -> str:
    r"""One message: a line, lines that end with \, or lines between three quotation marks."""
    line = input(_PROMPT)
    if line.lstrip().startswith(_BLOCK):
        return _read_block(line.lstrip().removeprefix(_BLOCK))
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(_MORE))
    return "\n".join(lines).strip()


def _read_block(line: str) -> str:
    lines: list[str] = []
    while not line.rstrip().endswith(_BLOCK):
        lines.append(line)
        line = input(_MORE)
    lines.append(line.rstrip().removesuffix(_BLOCK))
    return "\n".join(lines).strip()


def _ask(talk: Talk, state: State, text: str) -> None:
    """Answer one question. A stopped answer stays in the conversation as far as it came."""
    pieces: list[str] = []

    def take(piece: str) -> None:
        pieces.append(piece)
        _print(piece)

    try:
        end = talk.answer(state.model, state.with_question(text), state.sampling, take)
    except KeyboardInterrupt:
        click.echo("\n" + click.style(_("(stopped)"), dim=True))
        if not pieces:
            return
    else:
        parts = [end.place, state.model, plural("{count} token", "{count} tokens", end.tokens)]
        if end.speed is not None:
            parts.append(_("{speed} tokens/s").format(speed=f"{end.speed:.1f}"))
        click.echo("\n" + click.style(" · ".join([*parts, end.record]), dim=True))
    state.messages += [Message("user", text), Message("assistant", "".join(pieces))]


def _print(piece: str) -> None:
    # A model's text must not be able to steer the terminal.
    sys.stdout.write(say.plain(piece) if sys.stdout.isatty() else piece)
    sys.stdout.flush()


def _obey(talk: Talk, state: State, line: str) -> None:
    """Carry out a line that begins with a slash."""
    name, _space, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/help":
            say.pairs(_commands())
        case "/model":
            _choose(talk, state, rest)
        case "/system":
            state.system = rest or None
            click.echo(_("The instructions are set.") if rest else _("There are no instructions."))
        case "/new":
            state.messages.clear()
            click.echo(_("A new conversation."))
        case "/save":
            _save(state, rest)
        case "/quit":
            raise EOFError
        case _:
            raise RequestError(f"There is no command {name}: /help lists them.")


def _commands() -> list[tuple[str, str]]:
    return [
        ("/help", _("this list")),
        (_("/model NAME"), _("go on with another model; without a name: which there are")),
        (_("/system TEXT"), _("instructions from the next question on; without a text: none")),
        ("/new", _("forget the conversation and begin another")),
        (_("/save FILE"), _("write the conversation to a new file, as Markdown")),
        ("/quit", _("leave; so does Ctrl-D")),
        ("\\", _("at a line's end: the message goes on in the next line")),
        ('"""', _("begins and ends a message of several lines")),
        ("Ctrl-C", _("stops an answer")),
    ]


def _choose(talk: Talk, state: State, name: str) -> None:
    if name:
        talk.prepare(name)
        state.model = name
    for known in talk.names():
        click.echo(f"{'*' if known == state.model else ' '} {known}")


def _save(state: State, name: str) -> None:
    if not name:
        raise RequestError("/save needs the name of a file.")
    roles = {"user": _("You"), "assistant": state.model}
    text = "\n\n".join(f"**{roles[m.role]}**\n\n{m.content.strip()}" for m in state.messages)
    try:
        with Path(name).expanduser().open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise RequestError(f"Cannot write {name} ({error.strerror}): give another name.") from error
    click.echo(_("Saved to {file}.").format(file=name))


@contextlib.contextmanager
def _history(path: Path) -> Generator[None, None, None]:
    """Earlier questions on the up-arrow, kept in a file that only its owner reads."""
    if importlib.util.find_spec("readline") is None:
        say.note(_("This Python has no readline: earlier questions cannot be called back."))
        yield
        return
    import readline

    readline.set_history_length(_LONGEST_HISTORY)
    with contextlib.suppress(FileNotFoundError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        readline.write_history_file(path)
