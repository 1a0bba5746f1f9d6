"""From one format of the record's database to the next, a transaction a step.

Our own and not Alembic: a record has a handful of formats in its life, all of them ours, and the steps
are plain statements that are tested from a real database of each format. They are frozen: they do not
use `schema`, which goes on changing.

SQLite is upgraded when it is opened, after a consistent copy was laid beside it. Other databases are
upgraded by `daulat record upgrade`: other servers may be using them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from daulat.errors import RecordError

Step = Callable[[Connection], None]


def version(connection: Connection) -> int | None:
    """The format of what is there; None: nothing is."""
    if not inspect(connection).has_table("head"):
        return None
    row = connection.execute(text("SELECT version FROM head WHERE id = 1")).first()
    return None if row is None else int(row.version)


def upgrade(engine: Engine, to: int) -> tuple[int, ...]:
    """Bring a database to a format; the formats that it had on the way there.

    Raises:
        RecordError: the copy of an SQLite database could not be made; the database is as it was.
    """
    with engine.connect() as connection:
        found = version(connection)
    if found is None or not 0 < found < to:
        return ()
    if engine.dialect.name == "sqlite" and engine.url.database:
        _copy_beside(engine, Path(engine.url.database), found)
    passed: list[int] = []
    for number in range(found, to):
        with engine.execution_options(writing=True).begin() as connection:
            if engine.dialect.name != "sqlite":
                connection.execute(text("SELECT seq FROM head WHERE id = 1 FOR UPDATE"))
            # Another process may have done it while we waited for the lock.
            if version(connection) == number:
                STEPS[number](connection)
                stored = text("UPDATE head SET version = :version WHERE id = 1")
                connection.execute(stored, {"version": number + 1})
                passed.append(number)
    return tuple(passed)


def copy_of(path: Path, found: int) -> Path:
    """Where the copy is laid that is made before an upgrade."""
    return path.with_name(f"{path.name}.v{found}.bak")


def _copy_beside(engine: Engine, path: Path, found: int) -> None:
    """A whole and consistent copy, for its owner alone. One that is there already stays."""
    target = copy_of(path, found)
    if target.exists():
        return
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        part.touch(mode=0o600, exist_ok=False)
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("VACUUM INTO ?", (str(part),))
        finally:
            raw.close()
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(target)
    except Exception as error:
        raise RecordError(
            f"The record has format {found} and must be upgraded, but no copy of it could be laid "
            f"beside it first. Free disk space in {path.parent}; nothing was changed."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _to_2(connection: Connection) -> None:
    """Keys with limits, scopes and an end; the ledger; entries' numbers of 64 bits."""
    dialect = connection.dialect.name
    for statement in (*_ONLY_FOR.get(dialect, ()), *_TO_2):
        connection.execute(text(statement))


_BOUNDS: Final = "BETWEEN 0 AND 9000000000000000000"


def _table(name: str, columns: Sequence[str], counts: Sequence[str], key: str) -> str:
    rows = [
        *columns,
        *(f"{count} BIGINT DEFAULT 0 NOT NULL" for count in counts),
        f"PRIMARY KEY ({key})",
        f"CONSTRAINT {name}_bounds CHECK ({' AND '.join(f'{c} {_BOUNDS}' for c in counts)})",
    ]
    return f"CREATE TABLE {name} ({', '.join(rows)})"


_ONLY_FOR: Final[Mapping[str, Sequence[str]]] = {
    "postgresql": (
        "ALTER TABLE head ALTER COLUMN seq TYPE BIGINT",
        "ALTER TABLE entries ALTER COLUMN seq TYPE BIGINT",
        "ALTER TABLE contents ALTER COLUMN seq TYPE BIGINT",
    )
}

_TO_2: Final = (
    """ALTER TABLE keys ADD COLUMN scopes VARCHAR DEFAULT '["ask", "metrics"]' NOT NULL""",
    "ALTER TABLE keys ADD COLUMN project VARCHAR DEFAULT '' NOT NULL",
    "ALTER TABLE keys ADD COLUMN data_class VARCHAR DEFAULT '' NOT NULL",
    "ALTER TABLE keys ADD COLUMN limits VARCHAR DEFAULT '{}' NOT NULL",
    "ALTER TABLE keys ADD COLUMN expires BIGINT",
    "ALTER TABLE keys ADD COLUMN last_used VARCHAR(10) DEFAULT '' NOT NULL",
    "ALTER TABLE keys ADD COLUMN old_hash VARCHAR(64)",
    "ALTER TABLE keys ADD COLUMN old_until BIGINT",
    "CREATE UNIQUE INDEX keys_by_old_hash ON keys (old_hash)",
    _table(
        "balances",
        ("account VARCHAR NOT NULL", "period VARCHAR(10) NOT NULL"),
        (
            *("spent_units", "spent_parts", "spent_tokens"),
            *("reserved_units", "reserved_parts", "reserved_tokens"),
        ),
        "account, period",
    ),
    _table(
        "windows",
        ("account VARCHAR NOT NULL", "second BIGINT NOT NULL"),
        ("requests", "tokens"),
        "account, second",
    ),
    _table(
        "reservations",
        (
            *("subject VARCHAR(64) NOT NULL", "attempt INTEGER NOT NULL"),
            *("day VARCHAR(10) NOT NULL", "second BIGINT NOT NULL"),
            *(f"{name} VARCHAR NOT NULL" for name in ("held", "key", "project")),
            *(f"{name} VARCHAR NOT NULL" for name in ("endpoint", "model")),
        ),
        ("units", "parts", "tokens"),
        "subject, attempt",
    ),
    _table(
        "statistics",
        (
            "day VARCHAR(10) NOT NULL",
            *(f"{name} VARCHAR NOT NULL" for name in ("key", "project", "endpoint", "model")),
        ),
        (
            *("requests", "errors", "counted", "unpriced"),
            *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
            *("units", "parts"),
        ),
        "day, key, project, endpoint, model",
    ),
)

STEPS: Final[Mapping[int, Step]] = {1: _to_2}
"""What brings a format to the next one."""
