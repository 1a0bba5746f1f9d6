"""The keys that clients need: made here, shown once, kept as a hash; what is done with them is recorded.

A key that was looked up is remembered for a second, so that a request need not read the database. What
another process revokes is useless after that second, what this one revokes at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select, update

from daulat.errors import NotFoundError, RecordError, RequestError
from daulat.record import schema
from daulat.record.chain import now
from daulat.record.store import Record
from daulat.values.money import MOST
from daulat.values.plan import NO_LIMITS, Caller, Limits

log = logging.getLogger(__name__)

PREFIX = "daulat-"
MAX_SECRET = 512
SCOPES: Final = ("ask", "metrics", "admin")
LONGEST_OVERLAP: Final = 90 * 86_400
_REMEMBERED: Final = 1.0
_MOST_REMEMBERED: Final = 4096
_LAST: Final = 253_402_300_800
"""The end of the year 9999: later times have no date."""
_MOST: Final[Mapping[str, int]] = {"money": MOST, "tokens": 10**15, "requests": 10**9}


@dataclass(frozen=True, slots=True)
class KeyCard:
    """All that is known of a key.

    Attributes:
        created, revoked: RFC 3339; `revoked` is empty while the key is in force.
        last_used: the day (UTC) on which it was last shown to a server; empty: never.
        old_until: until when the secret before the last rotation works, too; seconds since 1970.
    """

    caller: Caller
    created: str
    revoked: str
    last_used: str
    old_until: float | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as looked up. `until`: when it or its secret ends; `stale`: when to look again."""

    caller: Caller
    until: float | None
    stale: float


class Keys:
    """The keys in a record's database. May be used from several threads."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._preset: tuple[str, Caller] | None = None
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._changes = 0

    def create(
        self,
        name: str,
        *,
        models: Sequence[str] = (),
        scopes: Sequence[str] = ("ask", "metrics"),
        project: str = "",
        data_class: str = "",
        limits: Limits = NO_LIMITS,
        expires: float | None = None,
    ) -> tuple[Caller, str]:
        """A new key and its secret, which nothing can show again.

        Args:
            name: for people, 1 to 100 characters.
            models: what it may ask for; empty: everything.
            scopes: of `ask`, `metrics`, `admin`.
            expires: seconds since 1970; None: never.

        Raises:
            RequestError: something out of bounds.
            RecordError: it could not be recorded.
        """
        caller = Caller(
            *(f"key-{secrets.token_hex(4)}", name, tuple(models)),
            *(tuple(s for s in SCOPES if s in scopes), project, data_class, limits),
            None if expires is None else float(int(expires)),
        )
        _check(caller, scopes)
        secret = _secret()
        body = _body(caller)
        row = {**_row(caller), "hash": _hash(secret), "created": now()}

        def work(connection: Connection) -> None:
            connection.execute(insert(schema.keys).values(row))
            self._record.append_within(connection, "key.created", caller.id, body)

        self._record.transact(work)
        return caller, secret

    # --- who asks -----------------------------------------------------------------------------------

    def identify(self, secret: str) -> Caller | None:
        """Who holds this secret. Looked up by its hash, so that timing tells nothing about it.

        Raises:
            RecordError: the keys cannot be read.
        """
        if len(secret) > MAX_SECRET:
            return None
        hashed = _hash(secret)
        return self._remembered(hashed) or self._look(hashed)

    def remembered(self, secret: str) -> Caller | None:
        """`identify` without the database: None also where the key must be looked up first."""
        return None if len(secret) > MAX_SECRET else self._remembered(_hash(secret))

    def preset(self, secret: str) -> None:
        """Accept a key that the environment gives, under the id `env`, for as long as we run.

        Raises:
            RequestError: not a usable secret.
        """
        if not 1 <= len(secret) <= MAX_SECRET or not secret.isascii() or " " in secret:
            raise RequestError(
                f"DAULAT_API_KEY must have 1 to {MAX_SECRET} ASCII characters and no spaces."
            )
        self._preset = (_hash(secret), Caller("env", "DAULAT_API_KEY"))

    def _remembered(self, hashed: str) -> Caller | None:
        if self._preset is not None and hashed == self._preset[0]:
            return self._preset[1]
        known = self._known.get(hashed)
        if known is None or time.monotonic() >= known.stale or _is_over(known.until):
            return None
        return known.caller

    def _look(self, hashed: str) -> Caller | None:
        """Look a key up, and remember it."""
        before, asked = self._changes, time.monotonic()
        k = schema.keys.c
        query = select(schema.keys).where(
            or_(k.hash == hashed, k.old_hash == hashed), k.revoked.is_(None)
        )
        with self._record.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        ends = [row.expires, row.old_until if row.old_hash == hashed else None]
        until = min((end for end in ends if end is not None), default=None)
        if _is_over(until):
            return None
        caller = _caller(row)
        self._remember(hashed, _Known(caller, until, asked + _REMEMBERED), before)
        if row.last_used != _today():
            self._note_use(caller.id)
        return caller

    def _remember(self, hashed: str, known: _Known, before: int) -> None:
        with self._lock:
            # What was read before a key was changed must not come back after it.
            if self._changes != before:
                return
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[hashed] = known

    def _forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._known.clear()

    def _note_use(self, key_id: str) -> None:
        """Note the day, once a day."""
        today = _today()

        def work(connection: Connection) -> None:
            k = schema.keys.c
            mine = update(schema.keys).where(k.id == key_id, k.last_used < today)
            connection.execute(mine.values(last_used=today))

        try:
            self._record.transact(work)
        except RecordError as error:
            log.warning("the day of a key's last use was not noted: %s", error.message)

    # --- looking ------------------------------------------------------------------------------------

    def list(self) -> list[Caller]:
        """The keys in force, oldest first."""
        return [card.caller for card in self.cards() if not card.revoked]

    def cards(self) -> list[KeyCard]:
        """All keys there ever were, oldest first."""
        query = select(schema.keys).order_by(schema.keys.c.created, schema.keys.c.id)
        with self._record.reading() as connection:
            return [_card(row) for row in connection.execute(query)]

    def find(self, key_id: str) -> KeyCard:
        """A key by its id, in force or not.

        Raises:
            NotFoundError: there never was one.
        """
        query = select(schema.keys).where(schema.keys.c.id == key_id)
        with self._record.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(
                f"There never was a key {key_id[:64]}. `daulat keys list` shows them."
            )
        return _card(row)

    def any_made(self) -> bool:
        """Whether there ever was a key, in force or not."""
        with self._record.reading() as connection:
            return connection.execute(select(schema.keys.c.id).limit(1)).first() is not None

    # --- changing -----------------------------------------------------------------------------------

    def rotate(self, key_id: str, overlap_seconds: int = 0) -> str:
        """A new secret for a key; the old one works for so long beside it. The new secret.

        The secret before the old one ends now.

        Raises:
            NotFoundError: no such key in force.
            RequestError: an overlap below 0 or above 90 days.
        """
        if not 0 <= overlap_seconds <= LONGEST_OVERLAP:
            raise RequestError(
                f"An old secret may work for 0 to {LONGEST_OVERLAP} seconds more.",
                param="overlap_seconds",
            )
        secret = _secret()
        until = int(time.time()) + overlap_seconds
        k = schema.keys.c

        def work(connection: Connection) -> None:
            mine = update(schema.keys).where(k.id == key_id, k.revoked.is_(None))
            changed = mine.values(hash=_hash(secret), old_hash=k.hash, old_until=until)
            _one(connection.execute(changed).rowcount, key_id)
            body = {"old_until": until}
            self._record.append_within(connection, "key.rotated", key_id, body)

        self._record.transact(work)
        self._forget()
        return secret

    def revoke(self, key_id: str) -> None:
        """Make a key useless from now on.

        Raises:
            NotFoundError: no such key in force.
        """

        def work(connection: Connection) -> None:
            k = schema.keys.c
            mine = update(schema.keys).where(k.id == key_id, k.revoked.is_(None))
            _one(connection.execute(mine.values(revoked=now())).rowcount, key_id)
            self._record.append_within(connection, "key.revoked", key_id, {})

        self._record.transact(work)
        self._forget()


def _one(changed: int, key_id: str) -> None:
    if changed == 0:
        raise NotFoundError(
            f"There is no key {key_id[:64]} in force. `daulat keys list` shows them."
        )


def _check(caller: Caller, scopes: Sequence[str]) -> None:
    """Bounds of what a key may have.

    Raises:
        RequestError: something is out of bounds.
    """
    if not 1 <= len(caller.name) <= 100 or not caller.name.isprintable():
        raise RequestError("A key's name has 1 to 100 printable characters.", param="name")
    if len(caller.models) > 256 or not all(_is_word(m, 256) for m in caller.models):
        raise RequestError(
            "A key covers at most 256 models with names of 1 to 256 printable characters.",
            param="models",
        )
    if not scopes or set(scopes) - set(SCOPES):
        raise RequestError(f"A key's scopes are of {', '.join(SCOPES)}.", param="scopes")
    for param, word in (("project", caller.project), ("data_class", caller.data_class)):
        if word and not _is_word(word, 64):
            raise RequestError(f"A {param} has 1 to 64 printable characters.", param=param)
    if caller.expires is not None and not time.time() < caller.expires < _LAST:
        raise RequestError("A key ends at a time to come, before the year 10000.", param="expires")
    for name, limit in _set_limits(caller.limits).items():
        if not 0 <= limit <= _MOST[name.partition("_")[0]]:
            raise RequestError(f"{name} is out of bounds.", param=name)


def _is_word(text: str, longest: int) -> bool:
    return 1 <= len(text) <= longest and text.isprintable()


def _is_over(end: float | None) -> bool:
    return end is not None and time.time() >= end


def _set_limits(limits: Limits) -> dict[str, int]:
    return {name: value for name, value in asdict(limits).items() if value is not None}


def _row(caller: Caller) -> dict[str, Any]:
    return {
        "id": caller.id,
        "name": caller.name,
        "models": json.dumps(caller.models),
        "scopes": json.dumps(caller.scopes),
        "project": caller.project,
        "data_class": caller.data_class,
        "limits": json.dumps(_set_limits(caller.limits)),
        "expires": None if caller.expires is None else int(caller.expires),
    }


def _body(caller: Caller) -> dict[str, Any]:
    """What the record says of a new key: what was not left at its default."""
    usual = Caller(caller.id, caller.name)
    changed = {
        f.name: getattr(caller, f.name)
        for f in fields(caller)
        if getattr(caller, f.name) != getattr(usual, f.name)
    }
    if "limits" in changed:
        changed["limits"] = _set_limits(caller.limits)
    if "expires" in changed:
        changed["expires"] = int(caller.expires or 0)
    return {"name": caller.name, "models": list(caller.models), **changed}


def _caller(row: Any) -> Caller:
    limits = {f.name for f in fields(Limits)}
    stored = {name: n for name, n in json.loads(row.limits).items() if name in limits}
    return Caller(
        row.id,
        row.name,
        tuple(json.loads(row.models)),
        tuple(json.loads(row.scopes)),
        row.project,
        row.data_class,
        Limits(**stored) if stored else NO_LIMITS,
        None if row.expires is None else float(row.expires),
    )


def _card(row: Any) -> KeyCard:
    old = None if row.old_until is None or _is_over(row.old_until) else float(row.old_until)
    return KeyCard(_caller(row), row.created, row.revoked or "", row.last_used, old)


def _secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _hash(secret: str) -> str:
    # The secret has 256 random bits: nothing is gained by a slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
