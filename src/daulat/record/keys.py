"""The keys that clients need: made here, shown once, kept as a hash; making and revoking is recorded."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from daulat.errors import NotFoundError, RequestError
from daulat.record import schema
from daulat.record.chain import now
from daulat.record.store import Record
from daulat.values.plan import Caller

PREFIX = "daulat-"
MAX_SECRET = 512


class Keys:
    """The keys in a record's database."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._preset: tuple[str, Caller] | None = None

    def create(self, name: str, *, models: Sequence[str] = ()) -> tuple[Caller, str]:
        """A new key and its secret, which nothing can show again.

        Args:
            name: for people, 1 to 100 characters.
            models: what it may ask for; empty: everything.

        Raises:
            RequestError: a name out of bounds.
            RecordError: it could not be recorded.
        """
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise RequestError("A key's name has 1 to 100 printable characters.", param="name")
        secret = PREFIX + secrets.token_urlsafe(32)
        caller = Caller(f"key-{secrets.token_hex(4)}", name, tuple(models))

        def work(connection: Connection) -> None:
            row = {
                "id": caller.id,
                "name": name,
                "hash": _hash(secret),
                "models": json.dumps(list(models)),
                "created": now(),
            }
            connection.execute(insert(schema.keys).values(row))
            body = {"name": name, "models": list(models)}
            self._record.append_within(connection, "key.created", caller.id, body)

        self._record.transact(work)
        return caller, secret

    def identify(self, secret: str) -> Caller | None:
        """Who holds this secret. Looked up by its hash, so that timing tells nothing about it."""
        if len(secret) > MAX_SECRET:
            return None
        hashed = _hash(secret)
        if self._preset is not None and hashed == self._preset[0]:
            return self._preset[1]
        k = schema.keys.c
        query = select(k.id, k.name, k.models).where(k.hash == hashed, k.revoked.is_(None))
        with self._record.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Caller(row.id, row.name, tuple(json.loads(row.models)))

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

    def list(self) -> list[Caller]:
        """The keys in force, oldest first."""
        k = schema.keys.c
        query = select(k.id, k.name, k.models).where(k.revoked.is_(None)).order_by(k.created)
        with self._record.reading() as connection:
            rows = connection.execute(query).all()
        return [Caller(row.id, row.name, tuple(json.loads(row.models))) for row in rows]

    def any_made(self) -> bool:
        """Whether there ever was a key, in force or not."""
        with self._record.reading() as connection:
            return connection.execute(select(schema.keys.c.id).limit(1)).first() is not None

    def revoke(self, key_id: str) -> None:
        """Make a key useless from now on.

        Raises:
            NotFoundError: no such key in force.
        """

        def work(connection: Connection) -> None:
            k = schema.keys.c
            mine = update(schema.keys).where(k.id == key_id, k.revoked.is_(None))
            if connection.execute(mine.values(revoked=now())).rowcount == 0:
                raise NotFoundError(
                    f"There is no key {key_id[:64]} in force. `daulat keys list` shows them."
                )
            self._record.append_within(connection, "key.revoked", key_id, {})

        self._record.transact(work)


def _hash(secret: str) -> str:
    # The secret has 256 random bits: nothing is gained by a slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
