"""The command `daulat`: its commands by name, and how their ends become exit codes.

0: done. 1: an error of ours, told in one line on standard error. 2: the command was not understood.
130: interrupted by Ctrl-C. Not here: what a command does.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from daulat import __version__
from daulat.cli.shell import LateGroup, Session, common
from daulat.cli.words import _, teach_click
from daulat.errors import DaulatError

INTERRUPTED: Final = 130

COMMANDS: Final = {
    "up": "daulat.cli.up:up",
    "chat": "daulat.cli.chat:chat",
    "models": "daulat.cli.models:models",
    "adapters": "daulat.cli.adapters:adapters",
    "endpoints": "daulat.cli.endpoints:endpoints",
    "label": "daulat.cli.label:label",
    "record": "daulat.cli.record:record",
    "policy": "daulat.cli.policy:policy",
    "route": "daulat.cli.route:route",
    "keys": "daulat.cli.keys:keys",
    "report": "daulat.cli.report:report",
    "task": "daulat.cli.task:task",
    "compare": "daulat.cli.compare:compare",
    "spend": "daulat.cli.spend:spend",
    "certify": "daulat.cli.certify:certify",
    "certificate": "daulat.cli.certify:certificate",
    "config": "daulat.cli.config:config",
    "scripted": "daulat.cli.scripted:scripted",
}


def main() -> None:
    """Run the command line of this process and end it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    teach_click()
    session = Session()
    try:
        # click hands back the code where a command ended early, and whatever the command returned.
        code = root().main(list(arguments), "daulat", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python must not try to flush again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if session.debug:
            traceback.print_exc()
        click.echo(_("Error: {message}").format(message=_message(error)), err=True)
        return 1


def root() -> click.Group:
    """The command and all below it."""
    group = LateGroup(
        late=COMMANDS,
        callback=common(lambda: None),
        help=_("Own your AI: run open models on this machine, and keep a record you can verify."),
        epilog=_("Begin with `daulat up`. Each command explains itself: `daulat up --help`."),
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    group.params.extend(reversed(getattr(group.callback, "__click_params__", [])))
    return click.version_option(__version__, message="daulat %(version)s")(group)


def _message(error: Exception) -> str:
    if isinstance(error, DaulatError):
        return error.message
    return _(
        "Something failed that should not: {kind}. "
        "Run it again with --debug and report what it shows."
    ).format(kind=type(error).__name__)
