"""Who is let in: keys and bearer tokens, and the token endpoints of Google and IBM.

Google: https://developers.google.com/identity/protocols/oauth2/service-account (a signed assertion for an
access token). IBM: https://cloud.ibm.com/apidocs/iam-identity-token-api (an API key for one).
Not here: the words of a refusal (`wires`).
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from daulat.endpoints.scripted.ask import Json, TroubleError
from daulat.endpoints.scripted.script import Access
from daulat.endpoints.scripted.wires.gemini import MISSING
from daulat.errors import SettingsError

JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
APIKEY_GRANT: Final = "urn:ibm:params:oauth:grant-type:apikey"
_SKEW: Final = 60
_LONGEST: Final = 3600 + _SKEW
_MOST_TOKENS: Final = 100_000

# Which header carries the key, by protocol; a bearer token where none is named.
_HEADERS: Final[Mapping[str, bytes]] = {
    "anthropic": b"x-api-key",
    "azure": b"api-key",
    "gemini": b"x-goog-api-key",
}
_BEARERS: Final = frozenset({"vertex", "watsonx"})


class Door:
    """Checks keys and issues tokens; the tokens live in memory."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._tokens: OrderedDict[str, float] = OrderedDict()
        self._key: Any = None
        if access.google_public_key is not None:
            self._key = _public_key(access.google_public_key)

    def clear(self) -> None:
        """Forget the tokens that were issued."""
        self._tokens.clear()

    def check(self, protocol: str, headers: list[tuple[bytes, bytes]], query: str) -> None:
        """Let a request in.

        Raises:
            TroubleError: no key, a wrong one, or a token that has run out.
        """
        found = dict(headers)
        name = _HEADERS.get(protocol)
        key = found.get(name, b"").decode("latin-1") if name else ""
        if not key and protocol == "gemini":
            key = parse_qs(query).get("key", [""])[0]
        if not key and protocol != "gemini":
            scheme, _space, key = found.get(b"authorization", b"").decode("latin-1").partition(" ")
            key = key.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise TroubleError("unauthorized", MISSING if protocol == "gemini" else "")
        if not self._good(protocol, key):
            raise TroubleError("unauthorized")

    def _good(self, protocol: str, key: str) -> bool:
        if key in self._access.keys:
            return True
        if protocol in _BEARERS:
            return self._tokens.get(f"{protocol}:{key}", 0.0) > time.monotonic()
        return not self._access.keys

    def _issue(self, protocol: str, prefix: str) -> str:
        token = prefix + secrets.token_urlsafe(24)
        self._tokens[f"{protocol}:{token}"] = time.monotonic() + self._access.token_seconds
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)
        return token

    def google(self, body: bytes) -> tuple[int, Json]:
        """`POST /token`: status and body."""
        form = _form(body)
        if form.get("grant_type") != JWT_GRANT:
            words = f"Invalid grant_type: {form.get('grant_type', '')[:64]}"
            return 400, {"error": "unsupported_grant_type", "error_description": words}
        wrong = self._wrong_assertion(form.get("assertion", ""))
        if wrong:
            return 400, {"error": "invalid_grant", "error_description": wrong}
        token = self._issue("vertex", "ya29.")
        seconds = int(self._access.token_seconds)
        return 200, {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}

    def _wrong_assertion(self, assertion: str) -> str:
        parts = assertion.split(".")
        try:
            header, claims = (_decoded(part) for part in parts[:2])
            signature = _bytes(parts[2])
        except (IndexError, ValueError, msgspec.DecodeError):
            return "Invalid JWT: Failed audience check or not a JWT."
        if len(parts) != 3 or header.get("alg") != "RS256":
            return "Invalid JWT: alg must be RS256."
        wrong = _wrong_claims(claims, self._access.google_issuer)
        if wrong or self._key is None:
            return wrong
        signed = f"{parts[0]}.{parts[1]}".encode()
        return "" if _signed(self._key, signature, signed) else "Invalid JWT Signature."

    def ibm(self, body: bytes) -> tuple[int, Json]:
        """`POST /identity/token`: status and body."""
        form = _form(body)
        if form.get("grant_type") != APIKEY_GRANT:
            return 400, _iam("BXNIM0141E", "Unsupported grant type.")
        key = form.get("apikey", "")
        if not key or (self._access.keys and key not in self._access.keys):
            return 400, _iam("BXNIM0415E", "Provided API key could not be found.")
        seconds = int(self._access.token_seconds)
        return 200, {
            "access_token": self._issue("watsonx", "eyJ."),
            "refresh_token": "not_supported",
            "ims_user_id": 1,
            "token_type": "Bearer",
            "expires_in": seconds,
            "expiration": int(time.time()) + seconds,
            "scope": "ibm openid",
        }


def _form(body: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _bytes(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _decoded(part: str) -> Json:
    return msgspec.json.decode(_bytes(part), type=dict[str, Any])


def _wrong_claims(claims: Json, issuer: str | None) -> str:
    now = time.time()
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int | float) or not isinstance(expires, int | float):
        return "Invalid JWT: iat and exp must be given."
    if not claims.get("iss") or (issuer is not None and claims["iss"] != issuer):
        return "Invalid grant: account not found"
    if not str(claims.get("aud", "")).endswith("/token"):
        return "Invalid JWT: Failed audience check."
    if not claims.get("scope") and not claims.get("target_audience"):
        return "Invalid OAuth scope or ID token audience provided."
    if issued > now + _SKEW or expires <= now or expires - issued > _LONGEST:
        return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."  # noqa: E501
    return ""


def _iam(code: str, message: str) -> Json:
    return {"errorCode": code, "errorMessage": message, "context": {"requestId": "scripted"}}


def _public_key(pem: str) -> Any:
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    except ImportError as error:
        words = "Checking signatures needs the package `cryptography`: install it, or give no public key."
        raise SettingsError(words) from error
    try:
        return load_pem_public_key(pem.encode())
    except ValueError as error:
        raise SettingsError("The public key is no PEM.") from error


def _signed(key: Any, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    try:
        key.verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
