"""`daulat up`: the server on this machine, and the words that help to use it at once.

Not here: the server (`server.run`), the house it serves (`house`).
"""

from __future__ import annotations

import gc
import ipaddress

import click

from daulat.cli import say
from daulat.cli.shell import common, settings
from daulat.cli.words import _


@click.command(
    help=_(
        "Start the server and its chat page. They answer on this machine only, unless --host says "
        "otherwise. The first start fetches the starter model and prints your key, once. "
        "Ctrl-C ends it."
    )
)
@click.option(
    "--host",
    metavar=_("ADDRESS"),
    help=_("Address to listen on. [default: 127.0.0.1, or what daulat.toml says]"),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar=_("NUMBER"),
    help=_("Port to listen on; 0 takes a free one. [default: 8000, or what daulat.toml says]"),
)
@common
def up(host: str | None, port: int | None) -> None:
    chosen = settings(prepare=True)
    host = host or chosen.server.host
    if not _only_here(host):
        say.warn(
            _(
                "{host} can be reached from other machines. Keys and texts travel unencrypted "
                "unless a proxy with TLS stands in front: see docs/deploy.md."
            ).format(host=host)
        )
    # What is made at a start stays: looking through it for garbage again and again is a sixth of the time.
    gc.disable()
    try:
        from daulat.cli.serving import serve_home

        serve_home(chosen, host, chosen.server.port if port is None else port)
    finally:
        gc.enable()


def _only_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
