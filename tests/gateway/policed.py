"""A whole gateway in this process: the ASGI application over real endpoints, which ask scripted upstreams.

`opened` wires it from settings as `house` does, without this machine's engine; `bodies` says what an upstream
was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from daulat.endpoints import Endpoint as Asked
from daulat.endpoints.remote.build import build
from daulat.endpoints.scripted import Upstream
from daulat.flow import Hall, setup
from daulat.models.catalogue import Catalogue
from daulat.record import Record
from daulat.record.keys import Keys
from daulat.server.app import build_app
from daulat.settings import DataClass, Endpoint, Policy, Server, Settings

KINDS = {
    "openai": "/v1",
    "compatible": "/v1",
    "mistral": "/v1",
    "anthropic": "/v1",
    "gemini": "/v1beta",
}


def table(upstream: Upstream, kind: str, place: str, model: str, **more: Any) -> Endpoint:
    """An endpoint at a scripted upstream; each place has an upstream of its own."""
    url = upstream.url + KINDS[kind]
    keys = {"kind": kind, "url": url, "key": "env:SCRIPTED_KEY", "place": place, "retries": 0}
    return Endpoint(**{**keys, "models": (model,), "names": {model: "scripted"}, **more})


def reaching(**classes: tuple[tuple[str, ...], tuple[str, ...]]) -> Policy:
    """A policy of `class=(places, redacted)`."""
    made = {name: DataClass(places, redacted) for name, (places, redacted) in classes.items()}
    return Policy(classes=made)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Attributes:
    hall, record: what answers; `client`: asks it over ASGI, with the key `secret`.
    """

    settings: Settings
    hall: Hall
    keys: Keys
    record: Record
    client: httpx2.AsyncClient
    secret: str

    async def post(self, path: str, body: Mapping[str, Any], **headers: str) -> httpx2.Response:
        """One request with the key, or with another given as `authorization`."""
        told = {"authorization": f"Bearer {self.secret}"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json=body, headers=told)


@contextlib.asynccontextmanager
async def opened(
    home: Path, endpoints: Mapping[str, Endpoint], policy: Policy, **more: Any
) -> AsyncGenerator[Gateway, None]:
    """The gateway, for as long as the context is open; `more`: further tables of the settings."""
    await asyncio.to_thread(home.mkdir, mode=0o700, exist_ok=True)
    settings = Settings(home, endpoints=endpoints, policy=policy, **more)
    with contextlib.closing(Record.open(settings.record_place)) as record:
        keys = Keys(record)
        made: dict[str, Asked] = dict(build(settings))
        cards = {name: one.card for name, one in made.items()}
        hall = Hall(Catalogue(home), keys, record, made, "tests", setup(settings, cards))
        transport = httpx2.ASGITransport(build_app(hall, Server()))
        secret = keys.create("the test's")[1]
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", timeout=60
        ) as client:
            try:
                yield Gateway(settings, hall, keys, record, client, secret)
            finally:
                for one in made.values():
                    await one.close()


def bodies(upstream: Upstream) -> list[Any]:
    """The bodies that it was sent, parsed, and its books emptied."""
    found = [one["body"] for one in upstream.requests()]
    upstream.reset()
    return [json.loads(one) if isinstance(one, str) else one for one in found]


def said(value: Any) -> Iterator[str]:
    """Every text, name and number in a body; JSON inside of texts too."""
    match value:
        case dict():
            for name, below in value.items():
                yield name
                yield from said(below)
        case list():
            for below in value:
                yield from said(below)
        case str():
            yield value
            with contextlib.suppress(ValueError):
                inner = json.loads(value)
                if isinstance(inner, dict | list):
                    yield from said(inner)
        case _:
            yield json.dumps(value)
