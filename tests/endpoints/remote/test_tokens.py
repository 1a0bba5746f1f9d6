"""Tokens for keys: when they are had, how they are asked for, and that nobody sees them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from google.auth import jwt

from daulat.endpoints.remote.tokens import GOOGLE_SCOPE, IBM_URL, GoogleGrant, IbmGrant, TokenAccess
from daulat.errors import (
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamUnavailableError,
)

PRIVATE = rsa.generate_private_key(65537, 2048)


def pem(key: Any = PRIVATE) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


ACCOUNT = {
    "type": "service_account",
    "project_id": "my-project",
    "private_key_id": "k1",
    "private_key": pem(),
    "client_email": "daulat@my-project.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}


@dataclass
class Kept:
    """A key in memory."""

    held: str = "api-key-of-ours"
    next: str = ""

    async def text(self) -> str:
        return self.held

    async def refused(self) -> bool:
        before, self.held = self.held, self.next or self.held
        return before != self.held


@dataclass
class Issuer:
    """A token endpoint: gives token after token, or the failure that is next."""

    life: Any = 3600
    failures: list[Any] = field(default_factory=list)
    calls: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    async def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        self.calls.append((url, headers, body))
        await asyncio.sleep(0.01)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        made = {"access_token": f"token-{len(self.calls)}", "expires_in": self.life}
        return 200, {}, json.dumps(made).encode()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    issuer: Issuer
    clock: Clock
    key: Kept
    access: TokenAccess

    async def token(self) -> str:
        return (await self.access.headers())["authorization"].removeprefix("Bearer ")


@pytest.fixture
def scene() -> Scene:
    issuer, clock, key = Issuer(), Clock(), Kept()
    return Scene(issuer, clock, key, TokenAccess(key, IbmGrant(), issuer, clock))


class TestWhen:
    async def test_one_token_serves_many(self, scene: Scene) -> None:
        many = await asyncio.gather(*(scene.token() for _ in range(200)))
        assert set(many) == {"token-1"}
        assert await scene.token() == "token-1"
        assert len(scene.issuer.calls) == 1

    async def test_the_next_is_had_ahead_of_time_and_nobody_waits(self, scene: Scene) -> None:
        await scene.token()
        scene.clock.now += 3600 - 301
        assert await scene.token() == "token-1"
        assert len(scene.issuer.calls) == 1
        scene.clock.now += 2
        many = await asyncio.gather(*(scene.token() for _ in range(50)))
        assert set(many) == {"token-1"}
        await asyncio.sleep(0.05)
        assert await scene.token() == "token-2"
        assert len(scene.issuer.calls) == 2

    async def test_a_failure_ahead_of_time_is_tried_again_later(self, scene: Scene) -> None:
        await scene.token()
        scene.issuer.failures = [(503, {}, b""), (503, {}, b"")]
        scene.clock.now += 3400
        for _ in range(5):
            assert await scene.token() == "token-1"
            await asyncio.sleep(0.02)
        assert len(scene.issuer.calls) == 2
        scene.clock.now += 11
        assert await scene.token() == "token-1"
        await asyncio.sleep(0.02)
        scene.clock.now += 11
        assert await scene.token() == "token-1"
        await asyncio.sleep(0.02)
        assert await scene.token() == "token-4"

    async def test_when_it_has_ended_whoever_asks_waits_or_hears_why_not(
        self, scene: Scene
    ) -> None:
        await scene.token()
        scene.clock.now += 3600
        scene.issuer.failures = [(503, {}, b"")]
        with pytest.raises(UpstreamUnavailableError):
            await scene.token()
        assert await scene.token() == "token-3"

    @pytest.mark.parametrize("life", [1, 30, "3599", 3599.9])
    async def test_lives(self, scene: Scene, life: Any) -> None:
        scene.issuer.life = life
        await scene.token()
        scene.clock.now += float(life)
        assert await scene.token() == "token-2"

    async def test_one_that_is_refused_is_had_anew(self, scene: Scene) -> None:
        await scene.token()
        scene.clock.now += 60
        scene.key.next = "another-key"
        assert await scene.access.refused()
        assert await scene.token() == "token-2"
        assert b"another-key" in scene.issuer.calls[-1][2]
        # Others had shown the first token too; the second is not thrown away for it.
        assert all([await scene.access.refused() for _ in range(10)])
        assert await scene.token() == "token-2"

    async def test_one_who_gives_up_takes_nothing_from_the_others(self, scene: Scene) -> None:
        first = asyncio.create_task(scene.token())
        second = asyncio.create_task(scene.token())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "token-1"
        assert first.cancelled()
        assert len(scene.issuer.calls) == 1


class TestWhatComes:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ((400, {}, b'{"error":"invalid_grant"}'), UpstreamAccessError),
            ((401, {}, b""), UpstreamAccessError),
            ((429, {}, b""), UpstreamBusyError),
            ((500, {}, b""), UpstreamUnavailableError),
            ((302, {}, b""), UpstreamAnswerError),
            ((200, {}, b""), UpstreamAnswerError),
            ((200, {}, b'{"access_token":""}'), UpstreamAnswerError),
            ((200, {}, b'{"access_token":"a\\r\\nb: c"}'), UpstreamAnswerError),
            ((200, {}, b'{"access_token":"\xc3\xa9"}'), UpstreamAnswerError),
            ((200, {}, b'{"access_token":"x","expires_in":-1}'), UpstreamAnswerError),
            (UpstreamUnavailableError("no connection"), UpstreamUnavailableError),
        ],
    )
    async def test_failures(self, scene: Scene, answer: Any, error: type[Exception]) -> None:
        scene.issuer.failures = [answer]
        with pytest.raises(UpstreamError) as raised:
            await scene.token()
        assert type(raised.value) is error
        assert await scene.token() == "token-2"

    async def test_nobody_sees_keys_and_tokens(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        seen = [repr(scene.access)]
        scene.issuer.failures = [
            (200, {}, b'{"access_token":"token-secret\\n"}'),
            (400, {}, b"token-secret"),
        ]
        for _ in range(2):
            with pytest.raises(UpstreamError) as raised:
                await scene.token()
            seen.append(repr(raised.value) + raised.value.message)
            assert raised.value.__cause__ is None
            assert raised.value.__context__ is None
        await scene.token()
        seen += [repr(scene.access), caplog.text]
        assert not re.search(r"token-|api-key-of-ours", "".join(seen))


class TestIbm:
    async def test_form(self, scene: Scene) -> None:
        await scene.token()
        ((url, headers, body),) = scene.issuer.calls
        assert url == IBM_URL
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        assert parse_qs(body.decode()) == {
            "grant_type": ["urn:ibm:params:oauth:grant-type:apikey"],
            "apikey": ["api-key-of-ours"],
        }

    async def test_an_address_that_is_not_safe(self, scene: Scene) -> None:
        access = TokenAccess(scene.key, IbmGrant("http://iam.example.org/token"), scene.issuer)
        with pytest.raises(UpstreamAccessError, match="https"):
            await access.headers()
        assert not scene.issuer.calls


class TestGoogle:
    async def request(self, account: Any, url: str = "") -> tuple[str, dict[str, list[str]]]:
        text = account if isinstance(account, str) else json.dumps(account)
        where, form = await GoogleGrant(url, lambda: 1_700_000_000.9).request(text)
        return where, parse_qs(form.decode())

    async def test_assertion(self) -> None:
        url, form = await self.request(ACCOUNT)
        assert url == ACCOUNT["token_uri"]
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        said, _dot, signature = form["assertion"][0].rpartition(".")
        header, claims = (json.loads(decoded(part)) for part in said.split("."))
        assert header == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        assert claims == {
            "iss": ACCOUNT["client_email"],
            "scope": GOOGLE_SCOPE,
            "aud": ACCOUNT["token_uri"],
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
        }
        public = PRIVATE.public_key()
        public.verify(decoded(signature), said.encode(), padding.PKCS1v15(), hashes.SHA256())

    async def test_the_vendors_own_library_takes_it(self) -> None:
        _url, form = await GoogleGrant().request(json.dumps(ACCOUNT))
        assertion = parse_qs(form.decode())["assertion"][0]
        public = PRIVATE.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        claims = jwt.decode(assertion, public, audience=ACCOUNT["token_uri"])
        assert claims["iss"] == ACCOUNT["client_email"]
        other = rsa.generate_private_key(65537, 2048).public_key()
        with pytest.raises(ValueError, match="signature"):
            jwt.decode(
                assertion,
                other.public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                ),
            )

    async def test_another_address(self) -> None:
        url, form = await self.request(ACCOUNT, "https://private.example.org/token")
        assert url == "https://private.example.org/token"
        assert len(form["assertion"]) == 1

    @pytest.mark.parametrize(
        "account",
        [
            "AIzaSy-a-plain-key",
            {},
            {**ACCOUNT, "private_key": "secret"},
            {**ACCOUNT, "private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
            {**ACCOUNT, "client_email": ""},
        ],
    )
    async def test_what_is_no_key_of_google(self, account: Any) -> None:
        with pytest.raises(UpstreamAccessError) as raised:
            await self.request(account)
        assert "secret" not in raised.value.message
        assert "AIza" not in raised.value.message

    async def test_a_file_that_leads_elsewhere(self) -> None:
        issuer = Issuer()
        key = Kept(json.dumps({**ACCOUNT, "token_uri": "http://evil.example.org/token"}))
        with pytest.raises(UpstreamAccessError, match="https"):
            await TokenAccess(key, GoogleGrant(), issuer).headers()
        assert not issuer.calls


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
