"""The kinds of endpoints that speak OpenAI's protocol: where they are, and how they are let in."""

from __future__ import annotations

from urllib.parse import urlsplit

from daulat.endpoints.remote.access import Access, KeyHeader, NoAccess, Secret
from daulat.endpoints.remote.kinds import Made
from daulat.endpoints.remote.openai import OpenAiDialect
from daulat.endpoints.remote.profiles import PROFILES
from daulat.errors import SettingsError
from daulat.settings import Endpoint


def made(name: str, table: Endpoint) -> Made:
    """An endpoint of one of these kinds; all but a `compatible` one have a key.

    Raises:
        SettingsError: its address or its key is missing.
    """
    profile = PROFILES[table.kind]
    url = _azure_url(table) if profile.deployments else table.url.rstrip("/") or profile.url
    if not url:
        raise SettingsError(
            f"[endpoints.{name}] url is missing: it says where the endpoint is.",
            param=f"endpoints.{name}.url",
        )
    if not table.key and table.kind != "compatible":
        raise SettingsError(
            f'[endpoints.{name}] key is missing: say where it is, such as key = "env:NAME".',
            param=f"endpoints.{name}.key",
        )
    access: Access = NoAccess()
    if table.key:
        access = KeyHeader(Secret(table.key, name), *profile.key)
    headers = {"openai-project": table.project} if table.kind == "openai" and table.project else {}
    dialect = OpenAiDialect(profile, table.version)
    return Made(dialect, url, access, own_url=not table.url, headers=headers)


def _azure_url(table: Endpoint) -> str:
    """The resource's address up to where models are asked for."""
    url = table.url.rstrip("/")
    if not url or urlsplit(url).path:
        return url
    return url + ("/openai" if table.version else "/openai/v1")
