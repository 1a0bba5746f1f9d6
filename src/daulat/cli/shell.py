"""What all commands share: `--home` and `--debug`, the settings, groups that import late.

Not here: any command, and how a command's end becomes an exit code (`app`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.record import Record
    from daulat.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """What `--home` and `--debug` said, before or behind the command's name."""

    home: Path | None = None
    debug: bool = False

    def folder(self) -> Path:
        """The home: `--home`, else DAULAT_HOME, else `~/.daulat`."""
        from daulat.settings import default_home

        return self.home.expanduser().absolute() if self.home else default_home()


def session() -> Session:
    """The session of the command that is running."""
    return click.get_current_context().ensure_object(Session)


def settings(*, prepare: bool = False) -> Settings:
    """The home's settings. Where they say so, the door to the network is locked from here on.

    Args:
        prepare: create the home, for its owner alone, where it is not there.

    Raises:
        SettingsError: `daulat.toml` is wrong, or the home cannot be created.
    """
    from daulat.net.lock import set_lock
    from daulat.settings import load, prepare_home

    folder = session().folder()
    if prepare:
        prepare_home(folder)
    loaded = load(folder)
    set_lock(loaded.policy.lock)
    return loaded


@contextlib.contextmanager
def opened_record() -> Generator[Record, None, None]:
    """The record that the settings name, for commands that look at it without serving.

    Raises:
        RecordError: it cannot be opened.
    """
    from daulat.record import Record

    chosen = settings(prepare=True)
    record = Record.open(
        chosen.record_place,
        contents=chosen.record.contents,
        keep_days=chosen.record.keep_days,
    )
    with contextlib.closing(record):
        yield record


def common(function: Function) -> Function:
    """Give a command `--home` and `--debug`."""
    home = click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        metavar=_("DIR"),
        expose_value=False,
        callback=_remember_home,
        help=_("Where settings, models and the record are. [env: DAULAT_HOME; default: ~/.daulat]"),
    )
    debug = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_remember_debug,
        help=_("Show the whole trace of an error."),
    )
    return home(debug(function))


def _remember_home(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Session).home = value


def _remember_debug(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).debug = True


class LateGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    Args:
        late: `module:attribute` by the command's name, in the order of the help text.
    """

    def __init__(self, *args: Any, late: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._late = dict(late)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._late)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._late.get(cmd_name)
        if place is None:
            return None
        module, _colon, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of their definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)
