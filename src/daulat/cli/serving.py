"""The work behind `daulat up`: fetch, open, load, serve, and say how to talk to it.

Not here: options (`up`), the server (`server.run`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
from collections.abc import AsyncGenerator
from typing import Final

import click

from daulat import __version__, console
from daulat.cli import first, say
from daulat.cli.words import _, plural
from daulat.house import House, open_house
from daulat.server import logs
from daulat.server.run import serve
from daulat.settings import Settings

PRESET: Final = "DAULAT_API_KEY"

_SNIPPET: Final = """\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key={key})
answer = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Hello"}}]
)
print(answer.choices[0].message.content)"""


def serve_home(settings: Settings, host: str, port: int) -> None:
    """Serve a home until told to stop.

    Raises:
        DaulatError: no model, no record, no port; each says what to do.
    """
    server = dataclasses.replace(settings.server, host=host, port=port)
    settings = dataclasses.replace(settings, server=server)
    logs.configure(settings.log.level, settings.log.format)
    first.fetch(settings, settings.models.default)
    greeting = _Greeting(settings.models.default)
    serve(
        lambda: _opened(settings, greeting),
        settings,
        pages=console.routes(settings),
        on_ready=greeting.say,
    )


@contextlib.asynccontextmanager
async def _opened(settings: Settings, greeting: _Greeting) -> AsyncGenerator[House, None]:
    async with open_house(settings) as house:
        if house.interrupted:
            say.note(
                plural(
                    "{count} answer was cut off when the server last ended; the record says so.",
                    "{count} answers were cut off when the server last ended; the record says so.",
                    house.interrupted,
                )
            )
        greeting.told = await first.warm(house, settings.models.default)
        # Last, so that a start that fails before it has not used up the one showing of the key.
        greeting.secret = _first_key(house)
        yield house


def _first_key(house: House) -> str | None:
    """The secret of a new key, where there was none and none is preset."""
    preset = os.environ.get(PRESET)
    if preset:
        house.keys.preset(preset)
        return None
    if house.keys.any_made():
        return None
    _caller, secret = house.keys.create("first")
    return secret


@dataclasses.dataclass(slots=True)
class _Greeting:
    """What is printed when the server answers. `secret` is shown only in the start that made it;
    `told` is what there is to say of the model."""

    model: str
    secret: str | None = None
    told: str = ""

    def say(self, url: str) -> None:
        """Greet; from here on there is garbage to look for, though not among what is here already."""
        gc.freeze()
        gc.enable()
        click.echo(
            _("Daulat {version} answers at {url}").format(version=__version__, url=url) + "\n"
        )
        click.echo(self.told + "\n")
        click.echo(self._key())
        fragment = f"#key={self.secret}" if self.secret else ""
        self._part(_("Chat in the browser:"), f"{url}/{fragment}")
        self._part(_("Ask with curl:"), self._curl(url))
        self._part(_("Ask with the OpenAI SDK for Python:"), self._sdk(url))
        click.echo(_("Ctrl-C ends the server."))

    def _key(self) -> str:
        if self.secret:
            head = _("Your key. It is shown this once and is stored only as a hash; keep it safe:")
            return f"{head}\n{self.secret}\n"
        if os.environ.get(PRESET):
            return _("The key is the one in {variable}.").format(variable=PRESET) + "\n"
        return (
            _("Your key was shown at the first start. `daulat keys create` makes another one.")
            + "\n"
        )

    def _part(self, head: str, body: str) -> None:
        click.echo(f"{head}\n{body}\n")

    def _curl(self, url: str) -> str:
        message = {"role": "user", "content": "Hello"}
        body = json.dumps({"model": self.model, "messages": [message]})
        return (
            f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' "
            f"-H \"Authorization: Bearer {self.secret or '$' + PRESET}\" -d '{body}'"
        )

    def _sdk(self, url: str) -> str:
        key = f'"{self.secret}"' if self.secret else f'os.environ["{PRESET}"]'
        text = _SNIPPET.format(url=url, key=key, model=self.model)
        return text if self.secret else f"import os\n{text}"
