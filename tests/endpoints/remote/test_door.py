"""The door: what it refuses, what it keeps, and what it says when the other side fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from asking import Make, chat, ended
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import (
    NetworkError,
    SettingsError,
    UpstreamAnswerError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from daulat.net import transfer
from daulat.net.calls import Client, checked
from daulat.net.lock import is_loopback, is_private, set_lock

NAME = "The endpoint x"


@pytest.fixture
def locked() -> Iterator[None]:
    set_lock(True)
    yield
    set_lock(False)


@contextlib.asynccontextmanager
async def saying(answer: bytes, *, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that reads a request and says these bytes, whatever was asked; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(port: int, *, scheme: str = "http", seconds: float = 5.0) -> bytes:
    client = Client(f"{scheme}://localhost:{port}/v1", NAME, connect_seconds=seconds)
    try:
        reply = await client.send("/x", b"{}", {"authorization": "Bearer very-secret"})
        try:
            return await reply.body(1000)
        finally:
            reply.close()
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("host", "loopback", "private"),
    [
        ("localhost", True, False),
        ("LOCALHOST.", True, False),
        ("127.1.2.3", True, True),
        ("::1", True, True),
        ("[::1]", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("10.0.0.1", False, True),
        ("192.168.4.4", False, True),
        ("172.16.0.1", False, True),
        ("100.64.1.1", False, True),
        ("fd00::1", False, True),
        ("fe80::1%eth0", False, True),
        ("8.8.8.8", False, False),
        ("::ffff:8.8.8.8", False, False),
        ("2606:4700::1111", False, False),
        ("localhost.example.org", False, False),
        ("127.0.0.1.example.org", False, False),
        ("", False, False),
    ],
)
def test_addresses(host: str, loopback: bool, private: bool) -> None:
    assert is_loopback(host) is loopback
    assert is_private(host) is private


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(text: str) -> None:
    assert is_loopback(text) in (True, False)
    with contextlib.suppress(SettingsError):
        scheme, host = checked(text, NAME)
        assert scheme == "https" or is_loopback(host)


@pytest.mark.parametrize(
    ("url", "private", "sound"),
    [
        ("https://api.openai.com/v1", False, True),
        ("http://127.0.0.1:8000/v1", False, True),
        ("http://gpu.example.org/v1", False, False),
        ("http://gpu.internal:8000/v1", True, True),
        ("http://192.168.1.9/v1", True, True),
        ("http://8.8.8.8/v1", True, False),
        ("ftp://127.0.0.1", True, False),
        ("https://user:pass@host/v1", False, False),
        ("https://host/v1?x=1", False, False),
        ("https://", False, False),
        ("https://host:99999", False, False),
        ("api.openai.com", False, False),
    ],
)
def test_urls(url: str, private: bool, sound: bool) -> None:
    if sound:
        checked(url, NAME, private=private)
        return
    with pytest.raises(SettingsError) as raised:
        checked(url, NAME, private=private)
    assert "pass" not in raised.value.message


@pytest.mark.usefixtures("locked")
async def test_the_lock_refuses_all_but_this_machine(remote: Make) -> None:
    for url in ("https://api.openai.com/v1", "https://10.0.0.1/v1", "http://192.168.0.1/v1"):
        client = Client(url, NAME, private=True)
        with pytest.raises(NetworkError, match=r"policy\.lock"):
            await client.send("/x", b"", {})
    with pytest.raises(NetworkError, match=r"policy\.lock"):
        transfer.get_json("https://huggingface.co/api")
    with pytest.raises(NetworkError, match=r"policy\.lock"):
        transfer.pip_download("x", Path("/nowhere"), size=1)
    assert ended(await remote().ask(chat()))  # and this machine is reached as ever


async def test_plain_http_to_a_name_of_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_given: object, **_named: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    client = Client("http://gpu.internal/v1", NAME, private=True)
    with pytest.raises(UpstreamUnavailableError, match="not private"):
        await client.send("/x", b"", {})
    await client.close()


async def test_nothing_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamUnavailableError, match="refused") as raised:
            await asked(held.getsockname()[1])
    assert not raised.value.billable


@pytest.mark.outside
async def test_a_name_that_is_none() -> None:
    client = Client("https://nothing.invalid/v1", NAME)
    with pytest.raises(UpstreamUnavailableError) as raised:
        await client.send("/x", b"", {})
    assert not raised.value.billable
    await client.close()


async def test_a_connection_that_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:  # fill its backlog, so that the next one's SYN is dropped
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            with pytest.raises(UpstreamTimeoutError) as raised:
                await asked(port, seconds=0.3)
        finally:
            for one in waiting:
                one.close()
    assert not raised.value.billable


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    made = await asyncio.create_subprocess_exec(
        *("openssl", *words, "-keyout", str(key), "-out", str(cert)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with saying(b"", context=context) as port:
        with pytest.raises(UpstreamUnavailableError, match="certificate") as raised:
            await asked(port, scheme="https")
    assert not raised.value.billable


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UpstreamUnavailableError),
        (b"SSH-2.0-OpenSSH_9\r\n", UpstreamAnswerError),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n", UpstreamAnswerError),
        (HEAD + b"content-length: 10\r\n\r\n{}", UpstreamUnavailableError),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", UpstreamUnavailableError),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n", UpstreamError),
        (HEAD + b"content-length: 5000\r\n\r\n" + b" " * 5000, UpstreamAnswerError),
    ],
    ids=["nothing", "ssh", "long header", "short", "cut chunks", "bad chunks", "too long"],
)
async def test_broken_answers(answer: bytes, error: type[Exception]) -> None:
    async with saying(answer) as port:
        with pytest.raises(error) as raised:
            await asked(port)
    assert raised.value.billable  # type: ignore[attr-defined]
    assert "very-secret" not in repr(raised.value)


async def test_a_proxy_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass@127.0.0.1:{port}")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with server:
        client = Client("https://vendor.example/v1", NAME)
        with pytest.raises(UpstreamUnavailableError) as raised:
            await client.send("/x", b"{}", {"authorization": "Bearer very-secret"})
        await client.close()
        assert not raised.value.billable
        assert "pass" not in raised.value.message
        assert seen[0].startswith(b"CONNECT vendor.example:443")
        assert b"Basic bWU6cGFzcw==" in seen[0]
        assert b"very-secret" not in seen[0]
        async with saying(HEAD + b"content-length: 2\r\n\r\n{}") as own:
            assert await asked(own) == b"{}"
        assert len(seen) == 1
