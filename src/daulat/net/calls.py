"""Calls of endpoints: many at once, over connections that are kept, and nothing that is trusted.

One `Client` talks to one address. Redirects are not followed, so a key goes where it was meant to go;
certificates are always checked; plain HTTP is for this machine, and for private networks where the
caller says that the endpoint is in one. Not here: what is said, time-outs of an answer, trying again.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from daulat import __version__
from daulat.errors import (
    SettingsError,
    UpstreamAnswerError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from daulat.net import lock

if TYPE_CHECKING:
    import aiohttp

MAX_BODY: Final = 64 << 20
_KEPT_SECONDS: Final = {"http": 4.0, "https": 55.0}
"""How long an idle connection is kept: less than the servers there do (uvicorn 5 s, large vendors a minute or
more), for a request that meets a closing connection is lost."""
_OWN: Final = {"user-agent": f"daulat/{__version__}", "accept-encoding": "identity"}


class Client:
    """Calls to one address.

    Args:
        url: the address; paths are put behind it.
        name: what messages call it, such as `The endpoint openai`.
        private: plain HTTP may go to private addresses, and not only to this machine.
        connect_seconds: time to connect.

    Attributes:
        url: that address, without a slash at the end.

    Raises:
        SettingsError: the address has a form or a scheme that is not allowed.
    """

    def __init__(
        self, url: str, name: str, *, private: bool = False, connect_seconds: float = 5.0
    ) -> None:
        self._scheme, self._host = checked(url, name, private=private)
        self.url = url.rstrip("/")
        self.name = name
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None
        proxy = _proxy(self._scheme, self._host)
        self._proxy: dict[str, Any] = (
            {"proxy": proxy[0], "proxy_headers": proxy[1]} if proxy else {}
        )
        self._urls: dict[str, Any] = {}

    async def send(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """POST a body (GET where it is None); returns when the answer's head has come.

        Close what it returns. Cancelling closes the connection.

        Raises:
            NetworkError: the lock is on.
            UpstreamError: no answer. `billable` is true once the request was on its way.
        """
        lock.check(self._host, self.name)
        import aiohttp  # noqa: PLC0415 - not before an endpoint is asked

        session = self._session or self._open()
        try:
            response = await session.request(
                "GET" if body is None else "POST",
                self._url(path),
                data=body,
                headers={**_OWN, **headers},
                allow_redirects=False,
                **self._proxy,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self.failed(error) from None
        return Reply(response, self)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp  # noqa: PLC0415

        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=_KEPT_SECONDS[self._scheme],
            ttl_dns_cache=30,
            resolver=private_resolver(self.name) if self._scheme == "http" else None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # it would read ~/.netrc; proxies are given above
        )
        return self._session

    def _url(self, path: str) -> Any:
        """Parsed once for each path, for parsing takes as long as all else that is done here."""
        found = self._urls.get(path)
        if found is None:
            from yarl import URL  # noqa: PLC0415

            if len(self._urls) >= 1024:
                self._urls.clear()
            found = self._urls[path] = URL(self.url + path, encoded=True)
        return found

    def failed(self, error: Exception) -> UpstreamError:
        """What a failure means, in words without addresses or bodies."""
        import aiohttp  # noqa: PLC0415

        if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ServerTimeoutError):
            return UpstreamTimeoutError(
                f"{self.name} did not take a connection within {self._connect_seconds:g} seconds. "
                "Check its url in daulat.toml and the network."
            )
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return UpstreamUnavailableError(
                f"{self.name} cannot be reached safely: its certificate or TLS fails "
                f"({_tls(error)}). Check its url; SSL_CERT_FILE names further authorities."
            )
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
            return UpstreamUnavailableError(
                f"{self.name} cannot be reached ({_why(error)}). "
                "Check its url in daulat.toml, that it runs, and the network."
            )
        if isinstance(error, aiohttp.ClientResponseError):
            return UpstreamAnswerError(
                f"{self.name} does not speak HTTP as it should.", billable=True
            )
        return UpstreamUnavailableError(
            f"{self.name} broke the connection ({_why(error)}).", billable=True
        )


class Reply:
    """An answer whose head has come.

    Attributes:
        headers: names in lower case; of several of one name the last.
    """

    def __init__(self, response: aiohttp.ClientResponse, client: Client) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self._response = response
        self._content = response.content
        self._client = client

    @property
    def media_type(self) -> str:
        """What the body is said to be, such as `application/json`."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next bytes of the body, as they come; none: it is at its end.

        Raises:
            UpstreamError: the connection broke, or the body breaks off. `billable` is true.
        """
        try:
            return await self._content.readany()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._client.failed(error) from None

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Raises:
            UpstreamAnswerError: it is longer than `limit` bytes.
            UpstreamError: as `read`.
        """
        parts: list[bytes] = []
        size = 0
        while part := await self.read():
            size += len(part)
            if size > limit:
                raise UpstreamAnswerError(
                    f"{self._client.name} answered with more than {limit} bytes.", billable=True
                )
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go. A connection whose answer was read to its end is kept for the next; another is cut."""
        self._response.close()


def checked(url: str, name: str, *, private: bool = False) -> tuple[str, str]:
    """The scheme and the host of an address that may be asked.

    Raises:
        SettingsError: it has another form, holds a password, or is plain HTTP to somewhere else.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise SettingsError(
            f"{name}: its url is not an address. Write https://HOST/PATH."
        ) from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise SettingsError(f"{name}: its url must be https://HOST/PATH, without a query.")
    if parts.username or parts.password:
        raise SettingsError(f"{name}: a key does not belong into its url; see docs/connect.md.")
    if parts.scheme == "http" and not lock.is_loopback(host):
        if not private:
            raise SettingsError(
                f"{name}: plain http is for this machine and, where its place says so, for the own "
                "network. Write https."
            )
        if not lock.is_private(host) and any(c.isdigit() for c in host) and _numeric(host):
            raise SettingsError(f"{name}: {host} is no private address. Write https.")
    return parts.scheme, host


def _numeric(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _proxy(scheme: str, host: str) -> tuple[str, Mapping[str, str]] | None:
    """The environment's proxy, and what lets us into it. None for plain HTTP, which stays near."""
    if scheme == "http" or lock.is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies_environment()
    found = proxies.get("https") or proxies.get("all")
    if not found:
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    user, _at, place = parts.netloc.rpartition("@")
    known = base64.b64encode(unquote(user).encode()).decode()
    return f"{parts.scheme}://{place}", {"proxy-authorization": f"Basic {known}"} if user else {}


def private_resolver(name: str) -> Any:
    """Looks names up, and takes private addresses alone."""
    import aiohttp  # noqa: PLC0415

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[Any]:
            found = await super().resolve(host, port, family)
            if all(lock.is_private(one["host"]) for one in found):
                return found
            raise UpstreamUnavailableError(
                f"{name} was not asked: its host has an address that is not private, and plain http "
                "is for private addresses. Write https in its url."
            )

    return Resolver()


def _tls(error: Exception) -> str:
    inner: Any = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or "no reason")


def _why(error: Exception) -> str:
    """The system's word for it; the event loops put addresses into theirs."""
    inner: Any = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(getattr(inner, "strerror", "") or type(inner).__name__)[:200]
