"""Tokens that are had for a key: Google's for a service account, IBM's for an API key.

Sources: https://developers.google.com/identity/protocols/oauth2/service-account (a JSON Web Token of
RFC 7523, signed with RS256), https://cloud.google.com/iam/docs/keys-create-delete (the key's file),
https://cloud.ibm.com/docs/iam?topic=iam-iamtoken_from_apikey.

A token is had when it is first needed and again some time before it ends; whoever needs one meanwhile uses the
one there is, and only one is had at a time, however many wait for it. Keys and tokens are in no log, no
error and no `repr`. Not here: where keys are kept (`access`), the sending (`Post`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from daulat.errors import (
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamUnavailableError,
)

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""Sends a POST to a URL, with headers and a body; gives status, headers and body."""

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
IBM_URL: Final = "https://iam.cloud.ibm.com/identity/token"
LIFE: Final = 3600
"""Seconds that an assertion of Google's holds; the most that Google takes."""
AHEAD: Final = 300.0
"""A token is had anew so many seconds before it ends, or after nine tenths of a short life."""
PAUSE: Final = 10.0
"""Seconds between two attempts to have one ahead of time."""
LONGEST: Final = 1 << 15
_FORM: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_GOOGLE_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_IBM_GRANT: Final = "urn:ibm:params:oauth:grant-type:apikey"
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Key(Protocol):
    """Where a key is; `access.Secret` is one."""

    async def text(self) -> str:
        """The key. Raises UpstreamAccessError: there is none."""
        ...

    async def refused(self) -> bool:
        """Read it again. True: it is another one now."""
        ...


class Grant(Protocol):
    """How a key is turned into a request for a token."""

    @property
    def vendor(self) -> str: ...

    async def request(self, key: str) -> tuple[str, bytes]:
        """Where to ask, and the form. Raises UpstreamAccessError: the key is not one of that vendor."""
        ...


class _Token(msgspec.Struct, frozen=True):
    access_token: Annotated[str, Meta(min_length=1, max_length=LONGEST)]
    expires_in: Annotated[float, Meta(gt=0, le=1e7)] = float(LIFE)


_TOKEN = msgspec.json.Decoder(_Token, strict=False)


class TokenAccess:
    """An `Access` whose key is a token that runs out.

    Args:
        clock: seconds; only differences count.
    """

    def __init__(
        self, key: Key, grant: Grant, post: Post, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = key
        self._grant = grant
        self._post = post
        self._clock = clock
        self._headers: Mapping[str, str] = {}
        self._had = self._ends = self._renews = float("-inf")
        self._having: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"TokenAccess({self._grant.vendor})"

    async def headers(self) -> Mapping[str, str]:
        """The header with a token that holds.

        Raises:
            UpstreamAccessError: there is no key, or it is not taken.
            UpstreamError: a token cannot be had for the moment.
        """
        now = self._clock()
        if now >= self._ends:
            # Whoever waits may give up; the others still want the token.
            await asyncio.shield(self._task())
        elif now >= self._renews:
            self._task()
        return self._headers

    async def refused(self) -> bool:
        """Forget the token, and read the key again; another token may be taken.

        Of many requests that show one token, each is told that it is not taken; the token that the first of
        them brought about is kept for the others.
        """
        if self._clock() - self._had >= PAUSE:
            self._ends = self._renews = float("-inf")
            await self._key.refused()
        return True

    def _task(self) -> asyncio.Task[None]:
        if self._having is None or self._having.done():
            self._having = asyncio.create_task(self._have())
            # What a renewal ahead of time meets is nobody's yet: it is met again when the token has ended.
            self._having.add_done_callback(_seen)
        return self._having

    async def _have(self) -> None:
        began = self._clock()
        self._renews = began + PAUSE
        url, form = await self._grant.request(await self._key.text())
        if not _safe(url):
            raise UpstreamAccessError(
                f"{self._grant.vendor} is to be asked for a token at an address that is not https. "
                "Check token_url, or the key's file."
            )
        status, _headers, body = await self._post(url, _FORM, form)
        if status != 200:
            raise _failure(self._grant.vendor, status)
        token = _read(self._grant.vendor, body)
        life = token.expires_in
        self._headers = {"authorization": f"Bearer {token.access_token}"}
        self._had = began
        self._ends = began + max(life - 1, life / 2)
        self._renews = began + max(life - AHEAD, life * 0.9)


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _failure(vendor: str, status: int) -> UpstreamError:
    """Google answers 400 (`invalid_grant`) where the key is not taken, IBM 400 or 401."""
    if status in (400, 401, 403):
        return UpstreamAccessError(
            f"{vendor} gives no token for the key ({status}). Check the key, and the clock of this machine."
        )
    if status == 429:
        return UpstreamBusyError(f"{vendor} gives no token for the moment (429). Try again later.")
    if status >= 500:
        return UpstreamUnavailableError(
            f"{vendor} gives no token for the moment ({status}). Try again later."
        )
    return UpstreamAnswerError(
        f"{vendor} answers {status} when asked for a token. Check token_url."
    )


def _read(vendor: str, body: bytes) -> _Token:
    try:
        token = _TOKEN.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        token = None
    if token is None or not (token.access_token.isascii() and token.access_token.isprintable()):
        # Neither the cause nor the body is shown: they may hold a token.
        raise UpstreamAnswerError(f"{vendor} gives something else than a token. Check token_url.")
    return token


# --- IBM ------------------------------------------------------------------------------------------


class IbmGrant:
    """IBM's IAM: a token for an API key."""

    vendor = "IBM's IAM"

    def __init__(self, url: str = "") -> None:
        self._url = url or IBM_URL

    async def request(self, key: str) -> tuple[str, bytes]:
        """See `Grant`."""
        return self._url, _form(grant_type=_IBM_GRANT, apikey=key)


# --- Google ---------------------------------------------------------------------------------------


class _Account(msgspec.Struct, frozen=True):
    client_email: Annotated[str, Meta(min_length=1, max_length=1024)]
    private_key: Annotated[str, Meta(min_length=1, max_length=1 << 16)]
    token_uri: Annotated[str, Meta(min_length=1, max_length=1024)]
    private_key_id: Annotated[str, Meta(max_length=1024)] = ""

    def __repr__(self) -> str:
        return f"_Account({self.client_email})"


_ACCOUNT = msgspec.json.Decoder(_Account)


class GoogleGrant:
    """Google's tokens for a service account; the key is the text of its JSON file.

    Args:
        url: in place of the file's `token_uri`.
        now: seconds since 1970.
    """

    vendor = "Google"

    def __init__(self, url: str = "", now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._now = now

    async def request(self, key: str) -> tuple[str, bytes]:
        """See `Grant`."""
        try:
            account = _ACCOUNT.decode(key)
        except msgspec.DecodeError:
            raise UpstreamAccessError(
                "The key for Google is not the JSON file of a service account: point `key` to that file."
            ) from None
        assertion = await asyncio.to_thread(self._assertion, account)
        return self._url or account.token_uri, _form(grant_type=_GOOGLE_GRANT, assertion=assertion)

    def _assertion(self, account: _Account) -> str:
        now = int(self._now())
        header = {"alg": "RS256", "typ": "JWT"}
        if account.private_key_id:
            header["kid"] = account.private_key_id
        claims = {
            "iss": account.client_email,
            "scope": GOOGLE_SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + LIFE,
        }
        said = f"{_part(header)}.{_part(claims)}"
        return f"{said}.{_base64(_signature(account.private_key, said.encode()))}"


def _signature(pem: str, data: bytes) -> bytes:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415
    except ImportError:
        raise UpstreamAccessError(
            'The library that signs for Google is not here; `pip install "daulat[vertex]"` brings it.'
        ) from None
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UpstreamAccessError(
            "The service account's private_key is not an RSA key. Check its file."
        )
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


def _form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
