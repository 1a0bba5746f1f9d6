"""Keys: where they are, who may read them, and that nothing shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import Make, chat, ended

from daulat.endpoints import scripted
from daulat.endpoints.remote.access import KeyHeader, Secret
from daulat.endpoints.scripted import Script
from daulat.errors import SettingsError, UpstreamAccessError

KEY = "sk-secret-0123456789"


async def test_from_the_environment() -> None:
    environ = {"A_KEY": f" {KEY}\n"}
    secret = Secret("env:A_KEY", "oai", environ)
    assert await secret.text() == KEY
    assert KEY not in repr(secret)
    assert not await secret.refused()
    environ["A_KEY"] = "another"
    assert await secret.refused()
    assert await secret.text() == "another"
    with pytest.raises(UpstreamAccessError, match="B_KEY is not set"):
        await Secret("env:B_KEY", "oai", {}).text()


async def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o604)
    secret = Secret(f"file:{path}", "oai")
    with pytest.raises(UpstreamAccessError, match="chmod") as raised:
        await secret.text()
    assert str(tmp_path) not in raised.value.message
    path.chmod(0o600)
    assert await secret.text() == KEY
    path.write_text("another")
    assert await secret.text() == "another"
    path.write_text("")
    with pytest.raises(UpstreamAccessError, match="empty"):
        await secret.text()
    path.unlink()
    with pytest.raises(UpstreamAccessError, match="No such file"):
        await secret.text()
    path.write_bytes(b"x" * (1 << 17))
    path.chmod(0o600)
    with pytest.raises(UpstreamAccessError, match="longer"):
        await secret.text()


async def test_from_the_keyring() -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    kept = {("a/service", "me"): KEY}

    class Memory(KeyringBackend):
        priority = 1.0

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del kept[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert await Secret("keyring:a/service/me", "oai").text() == KEY
        with pytest.raises(UpstreamAccessError, match="keyring"):
            await Secret("keyring:a/service/you", "oai").text()
    finally:
        keyring.set_keyring(before)


async def test_a_keyring_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UpstreamAccessError, match=r"daulat\[keyring\]"):
        await Secret("keyring:service/me", "oai").text()


@pytest.mark.parametrize(
    "reference", [KEY, "", "env:", "file:", "keyring:only", "keyring:/me", "x:y"]
)
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Secret(reference, "oai")
    assert raised.value.param == "endpoints.oai.key"
    assert KEY not in raised.value.message


async def test_a_key_that_no_header_can_have() -> None:
    access = KeyHeader(Secret("env:K", "oai", {"K": f"{KEY}\nx: y"}))
    with pytest.raises(UpstreamAccessError) as raised:
        await access.headers()
    assert KEY not in raised.value.message


async def test_a_key_that_was_changed_is_found_after_it_was_refused(
    remote: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = scripted.Access(keys=frozenset({"the-new-key-123"}))
    with scripted.running(Script(words=3, access=access)) as upstream:
        monkeypatch.setenv("TURNING_KEY", "the-old-key-123")
        asked = remote(url=f"{upstream.url}/v1", key="env:TURNING_KEY")
        with pytest.raises(UpstreamAccessError) as raised:
            await asked.ask(chat())
        assert "the-old-key-123" not in raised.value.message
        monkeypatch.setenv("TURNING_KEY", "the-new-key-123")
        assert ended(await asked.ask(chat()))
        assert len(upstream.requests()) == 3
