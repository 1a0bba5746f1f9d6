"""`daulat label --browser`: the console's page for labels, with a key that ends with the command.

Not here: the page (`console`), what it asks for (`server.labelling`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import urlencode

import click

from daulat import console
from daulat.cli.words import _
from daulat.evaluate.labels.desk import Session
from daulat.house import House, open_house
from daulat.server import logs
from daulat.server.run import serve
from daulat.settings import Settings

_HOST: Final = "127.0.0.1"
_SECONDS: Final = 12 * 3600.0


def serve_page(settings: Settings, task: str, session: Session, port: int) -> None:
    """Serve the page on this machine until Ctrl-C.

    Raises:
        DaulatError: no record, no port.
    """
    server = dataclasses.replace(settings.server, host=_HOST, port=port)
    settings = dataclasses.replace(settings, server=server)
    logs.configure(settings.log.level, settings.log.format)
    query = {
        "task": task,
        "kind": session.kind,
        "n": session.drawn,
        "by": session.by,
        "scale": session.scale,
        "seed": session.seed,
    }
    secrets: list[str] = []

    def ready(url: str) -> None:
        address = f"{url}/label?{urlencode(query)}#key={secrets[0]}"
        click.echo(
            _("Label here, on this machine (the address holds a key; it ends with this command):")
        )
        click.echo(address + "\n")
        click.echo(_("Ctrl-C ends it."))
        if (
            sys.platform == "darwin"
            or os.environ.get("DISPLAY")
            or os.environ.get("WAYLAND_DISPLAY")
        ):
            click.launch(address)

    serve(
        lambda: _opened(settings, secrets),
        settings,
        pages=console.routes(settings),
        on_ready=ready,
    )


@contextlib.asynccontextmanager
async def _opened(settings: Settings, secrets: list[str]) -> AsyncGenerator[House, None]:
    """The house, with a key for the page alone."""
    async with open_house(settings) as house:
        caller, secret = house.keys.create(
            "labels", scopes=("admin",), expires=time.time() + _SECONDS
        )
        secrets.append(secret)
        try:
            yield house
        finally:
            house.keys.revoke(caller.id)
