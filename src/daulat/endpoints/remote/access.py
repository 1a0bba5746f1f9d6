"""How an endpoint is let in: where its key is, and the headers that show it.

A key is read when it is first needed, kept in memory, and read again when it was refused. It is in no log,
no error and no `repr`. Tokens that are had for a key are the vendors' own modules'; they meet the same
protocol (`Access`) and read their keys as `Secret`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from daulat.errors import SettingsError, UpstreamAccessError

MAX_BYTES: Final = 1 << 16
KINDS: Final = ("env", "file", "keyring")
_FORMS: Final = "env:NAME, file:PATH or keyring:SERVICE/USER"


class Access(Protocol):
    """What lets one endpoint in."""

    async def headers(self) -> Mapping[str, str]:
        """The headers that show the key, names in lower case.

        Raises:
            UpstreamAccessError: there is no key.
            UpstreamError: a token cannot be had.
        """
        ...

    async def refused(self) -> bool:
        """The endpoint said 401: forget what is held. True: `headers` may now give something else."""
        ...


class NoAccess:
    """For an endpoint that asks for no key."""

    async def headers(self) -> Mapping[str, str]:
        """None."""
        return {}

    async def refused(self) -> bool:
        """There is nothing else to show."""
        return False


class Secret:
    """A key, where a reference says that it is.

    Args:
        reference: `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`.
        endpoint: whose it is, for messages.

    Raises:
        SettingsError: the reference has another form.
    """

    def __init__(
        self, reference: str, endpoint: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._kind, _colon, self._place = reference.partition(":")
        self._endpoint = endpoint
        self._environ = environ
        self._held = ""
        self._stamp: tuple[int, ...] = ()
        if (
            self._kind not in KINDS
            or not self._place
            or (self._kind == "keyring" and not all(self._place.partition("/")))
        ):
            # What was written may be the key itself, so it is not repeated.
            raise SettingsError(
                f"[endpoints.{endpoint}] key must say where the key is, as {_FORMS}; the key itself "
                "does not belong into the file.",
                param=f"endpoints.{endpoint}.key",
            )

    def __repr__(self) -> str:
        return f"Secret({self._kind}, of {self._endpoint})"

    async def text(self) -> str:
        """The key, without white space around it.

        Raises:
            UpstreamAccessError: there is none, or its file is open to others.
        """
        if self._held and not self._changed():
            return self._held
        return await self._read()

    async def refused(self) -> bool:
        """Read it again. True: it is another one now."""
        before, self._held = self._held, ""
        return await self._read() != before

    def _changed(self) -> bool:
        return self._kind == "file" and _stamp(Path(self._place)) != self._stamp

    async def _read(self) -> str:
        match self._kind:
            case "env":
                text = self._environ.get(self._place, "")
            case "file":
                text = await asyncio.to_thread(self._from_file)
            case _:
                text = await asyncio.to_thread(self._from_keyring)
        text = text.strip()
        if not text:
            raise self._error(_MISSING[self._kind].format(place=self._place))
        if len(text) > MAX_BYTES:
            raise self._error(f"what is there is longer than {MAX_BYTES} bytes.")
        self._held = text
        return text

    def _from_file(self) -> str:
        path = Path(self._place).expanduser()
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_mode & (stat.S_IROTH | stat.S_IWOTH):
                    raise self._error(
                        "every user of this machine can read its file; `chmod o-rwx` it."
                    )
                self._stamp = _stamped(found)
                return file.read(MAX_BYTES + 1).decode("utf-8")
        except OSError as error:
            raise self._error(f"its file cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise self._error("its file is not text.") from None

    def _from_keyring(self) -> str:
        try:
            import keyring  # noqa: PLC0415 - an extra
            from keyring.errors import KeyringError  # noqa: PLC0415
        except ImportError:
            raise self._error(
                'the library for the keyring is not here; `pip install "daulat[keyring]"` brings it.'
            ) from None
        service, _slash, user = self._place.rpartition("/")
        try:
            return keyring.get_password(service, user) or ""
        except KeyringError as error:
            raise self._error(f"the keyring does not open ({type(error).__name__}).") from None

    def _error(self, why: str) -> UpstreamAccessError:
        return UpstreamAccessError(f"The endpoint {self._endpoint} has no key: {why}")


_MISSING: Final = {
    "env": "the environment variable {place} is not set. Set it where daulat runs.",
    "file": "its file is empty.",
    "keyring": "the keyring has none for it. `keyring set SERVICE USER` puts one there.",
}


class KeyHeader:
    """A key that goes into one header as it is, such as `authorization: Bearer KEY`."""

    def __init__(
        self, secret: Secret, name: str = "authorization", before: str = "Bearer "
    ) -> None:
        self._secret = secret
        self._name = name
        self._before = before
        self._made: tuple[str, Mapping[str, str]] = ("", {})

    async def headers(self) -> Mapping[str, str]:
        """The one header.

        Raises:
            UpstreamAccessError: there is no key, or it cannot stand in a header.
        """
        key = await self._secret.text()
        if self._made[0] != key:
            if not (key.isascii() and key.isprintable()):
                raise UpstreamAccessError(
                    f"{self._secret!r} has characters that no header can have. Check where it is kept."
                )
            self._made = (key, {self._name: self._before + key})
        return self._made[1]

    async def refused(self) -> bool:
        """Read the key again."""
        return await self._secret.refused()


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return _stamped(path.expanduser().stat())
    except OSError:
        return ()


def _stamped(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
