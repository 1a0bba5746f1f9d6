"""The kinds of endpoints that speak a vendor's own protocol: where they are, and how they are let in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from daulat.endpoints.remote.access import KeyHeader, Secret
from daulat.endpoints.remote.anthropic import ADDRESS as ANTHROPIC
from daulat.endpoints.remote.anthropic import VERSION, AnthropicDialect
from daulat.endpoints.remote.gemini import ADDRESS as GEMINI
from daulat.endpoints.remote.gemini import GeminiDialect, VertexDialect, vertex_address
from daulat.endpoints.remote.kinds import Made
from daulat.endpoints.remote.tokens import GoogleGrant, Grant, IbmGrant, TokenAccess
from daulat.endpoints.remote.watsonx import WatsonxDialect, address
from daulat.errors import SettingsError, UpstreamAccessError, UpstreamTimeoutError
from daulat.net.calls import Client, checked
from daulat.settings import Endpoint

TOKEN_SECONDS: Final = 30.0
MAX_TOKEN: Final = 1 << 20
_LOCATION: Final = re.compile(r"[a-z0-9-]{1,63}")


def anthropic(name: str, table: Endpoint) -> Made:
    """Anthropic, or whatever speaks its Messages API.

    Raises:
        SettingsError: there is no key.
    """
    access = KeyHeader(_secret(name, table), "x-api-key", "")
    dialect = AnthropicDialect(table.version)
    # Calls that are not the dialect's, such as for the list of models, need the version too.
    headers = {"anthropic-version": table.version or VERSION}
    return Made(dialect, _url(table, ANTHROPIC), access, own_url=not table.url, headers=headers)


def gemini(name: str, table: Endpoint) -> Made:
    """The Gemini API.

    Raises:
        SettingsError: there is no key.
    """
    access = KeyHeader(_secret(name, table), "x-goog-api-key", "")
    return Made(GeminiDialect(), _url(table, GEMINI), access, own_url=not table.url)


def vertex(name: str, table: Endpoint) -> Made:
    """Gemini at Vertex AI; the key is a service account's JSON file.

    Raises:
        SettingsError: the key, the project or the region is missing or wrong.
    """
    if not table.project:
        raise _wrong(name, "project", "is missing: it is the id of the project at Google Cloud.")
    location = _location(name, table, "europe-west4, or global")
    access = _tokens(name, table, GoogleGrant(table.token_url))
    dialect = VertexDialect(table.project, location)
    return Made(dialect, _url(table, vertex_address(location)), access, own_url=not table.url)


def watsonx(name: str, table: Endpoint) -> Made:
    """IBM's watsonx.ai; the key is an API key of IBM Cloud's.

    Raises:
        SettingsError: the key, the region, or project and space are missing or wrong.
    """
    if bool(table.project) == bool(table.space):
        raise _wrong(name, "project", "or space: give one of them, as watsonx.ai asks for it.")
    url = _url(table, "") or address(_location(name, table, "us-south"))
    access = _tokens(name, table, IbmGrant(table.token_url))
    dialect = WatsonxDialect(table.project, table.space, table.version, table.total_seconds)
    return Made(dialect, url, access, own_url=not table.url)


class TokenDoor:
    """Asks for tokens, over a connection of its own each time: one an hour."""

    def __init__(self, endpoint: str, connect_seconds: float) -> None:
        self._name = f"The endpoint {endpoint}'s token_url"
        self._connect_seconds = connect_seconds

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """See `tokens.Post`.

        Raises:
            UpstreamError: no answer, or none in time.
        """
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        try:
            client = Client(base, self._name, connect_seconds=self._connect_seconds)
        except SettingsError as error:
            raise UpstreamAccessError(error.message) from None
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                reply = await client.send(path, body, headers)
                return reply.status, reply.headers, await reply.body(MAX_TOKEN)
        except TimeoutError:
            raise UpstreamTimeoutError(
                f"{self._name} gave no token within {TOKEN_SECONDS:g} seconds. Try again later."
            ) from None
        finally:
            await client.close()


def _tokens(name: str, table: Endpoint, grant: Grant) -> TokenAccess:
    if table.token_url:
        checked(table.token_url, f"[endpoints.{name}] token_url")
    door = TokenDoor(name, table.connect_seconds)
    return TokenAccess(_secret(name, table), grant, door.post)


def _secret(name: str, table: Endpoint) -> Secret:
    if not table.key:
        raise _wrong(name, "key", 'is missing: say where it is, such as key = "env:NAME".')
    return Secret(table.key, name)


def _url(table: Endpoint, own: str) -> str:
    return table.url.rstrip("/") or own


def _location(name: str, table: Endpoint, such_as: str) -> str:
    if not _LOCATION.fullmatch(table.location):
        raise _wrong(name, "location", f"must be a region of the vendor's, such as {such_as}.")
    return table.location


def _wrong(name: str, key: str, what: str) -> SettingsError:
    return SettingsError(f"[endpoints.{name}] {key} {what}", param=f"endpoints.{name}.{key}")
