"""The record's tables, and a database opened so that nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from daulat.errors import RecordError
from daulat.record import migrations

VERSION = 2
INCOMPLETE = -VERSION
"""The version of a database into which another one is being copied."""
EMPTY_HASH = "0" * 64
"""What the first entry has for its predecessor's hash."""

metadata = MetaData()

# In SQLite only INTEGER is the row's own number; there it has 64 bits anyway.
Number = BigInteger().with_variant(Integer, "sqlite")
_LARGEST = 9 * 10**18
_OUR_LOCK = 0x6461756C6174
_CHECKPOINT = 4000
"""Pages (16 MiB) in SQLite's log until they are moved to their places, for which a commit waits: at 1,000 one
in 120 took four times as long as the others."""


def _counts(table: str, *names: str) -> list[Column[int] | CheckConstraint]:
    """Columns of whole numbers, none below 0; what would overflow is an error, also in SQLite."""
    columns = [Column(name, Number, nullable=False, server_default="0") for name in names]
    rule = " AND ".join(f"{name} BETWEEN 0 AND {_LARGEST}" for name in names)
    return [*columns, CheckConstraint(rule, name=f"{table}_bounds")]


entries = Table(
    "entries",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False),
    Column("time", String(27), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("entries_by_subject", "subject"),
    Index("entries_by_kind", "kind", "seq"),
)

contents = Table(
    "contents",
    metadata,
    Column("seq", Number, ForeignKey("entries.seq"), primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=True),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Number, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("version", Integer, nullable=False),
)

open_exchanges = Table(
    "open_exchanges",
    metadata,
    Column("subject", String(64), primary_key=True),
    Column("instance", String(64), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("models", String, nullable=False),
    Column("created", String(27), nullable=False),
    Column("revoked", String(27), nullable=True),
    Column("scopes", String, nullable=False, server_default='["ask", "metrics"]'),
    Column("project", String, nullable=False, server_default=""),
    Column("data_class", String, nullable=False, server_default=""),
    Column("limits", String, nullable=False, server_default="{}"),
    Column("expires", Number, nullable=True),
    Column("last_used", String(10), nullable=False, server_default=""),
    Column("old_hash", String(64), nullable=True),
    Column("old_until", Number, nullable=True),
    Index("keys_by_old_hash", "old_hash", unique=True),
)
"""`limits`: a JSON object of those that are set. `expires`, `old_until`: seconds since 1970."""

# Money is in two columns, whole units and the amount beyond them: one would hold nine million units
# only, which is little in many currencies.

balances = Table(
    "balances",
    metadata,
    Column("account", String, primary_key=True),
    Column("period", String(10), primary_key=True),
    *_counts(
        "balances",
        *("spent_units", "spent_parts", "spent_tokens"),
        *("reserved_units", "reserved_parts", "reserved_tokens"),
    ),
)

windows = Table(
    "windows",
    metadata,
    Column("account", String, primary_key=True),
    Column("second", Number, primary_key=True, autoincrement=False),
    *_counts("windows", "requests", "tokens"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("subject", String(64), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("day", String(10), nullable=False),
    Column("second", Number, nullable=False),
    Column("held", String, nullable=False),
    Column("key", String, nullable=False),
    Column("project", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("model", String, nullable=False),
    *_counts("reservations", "units", "parts", "tokens"),
)
"""`held`: a JSON list of the accounts whose balances count it."""

statistics = Table(
    "statistics",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("key", String, primary_key=True),
    Column("project", String, primary_key=True),
    Column("endpoint", String, primary_key=True),
    Column("model", String, primary_key=True),
    *_counts(
        "statistics",
        *("requests", "errors", "counted", "unpriced"),
        *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
        *("units", "parts"),
    ),
)


def open_database(where: str | Path) -> Engine:
    """An engine on a database that has our tables; SQLite for a path.

    A database of an older format is upgraded where it is SQLite, with a copy of it left beside.

    Raises:
        RecordError: it cannot be opened, a newer Daulat has written it, or it must be upgraded first.
    """
    engine = connect(where)
    try:
        if engine.dialect.name == "sqlite":
            migrations.upgrade(engine, VERSION)
        with engine.execution_options(writing=True).begin() as connection:
            if engine.dialect.name == "postgresql":
                # Several servers may find an empty database at once.
                connection.execute(text("SELECT pg_advisory_xact_lock(:our)"), {"our": _OUR_LOCK})
            _check_version(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise RecordError(f"The record cannot be opened: {reason(error)}.") from error
    except RecordError:
        engine.dispose()
        raise
    return engine


def upgrade_database(where: str | Path) -> int | None:
    """Bring a database to our format; the one that it had, None where there was nothing to do.

    Raises:
        RecordError: it cannot be opened, or not be upgraded.
    """
    engine = connect(where)
    try:
        passed = migrations.upgrade(engine, VERSION)
    except SQLAlchemyError as error:
        raise RecordError(f"The record was not upgraded: {reason(error)}.") from error
    finally:
        engine.dispose()
    open_database(where).dispose()
    return passed[0] if passed else None


def connect(where: str | Path) -> Engine:
    """An engine on a database, whatever is in it.

    Raises:
        RecordError: no such kind of database.
    """
    try:
        local = URL.create("sqlite", database=str(where))
        engine = create_engine(local if isinstance(where, Path) else where)
    except (NoSuchModuleError, ArgumentError, ImportError) as error:
        raise RecordError(
            "record.url names a database that cannot be used. For PostgreSQL install "
            "daulat[postgresql] and write postgresql+psycopg://user@host/name."
        ) from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
        return engine
    # Whoever waited for a lock must see what was committed meanwhile, whatever the server's default is.
    return engine.execution_options(isolation_level="READ COMMITTED")


def reason(error: SQLAlchemyError) -> str:
    """The driver's own first line, without the statement and its values."""
    return (str(getattr(error, "orig", None) or error).splitlines() or ["unknown"])[0][:200]


def _check_version(connection: Connection) -> None:
    found = migrations.version(connection)
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(head).values(id=1, seq=0, hash=EMPTY_HASH, version=VERSION))
    elif found == INCOMPLETE:
        raise RecordError(
            "Another record is being copied into this one, and that has not come to its end. Run "
            "`daulat record migrate` again."
        )
    elif 0 < found < VERSION:
        raise RecordError(
            f"The record has format {found}; this version of Daulat writes format {VERSION}. Stop "
            "all servers that use it, back it up, and run `daulat record upgrade`."
        )
    elif found != VERSION:
        raise RecordError(
            f"The record has format {found}; this version of Daulat writes format {VERSION}. "
            "Upgrade Daulat."
        )


def _prepare_sqlite(engine: Engine) -> None:
    """WAL for readers beside a writer; FULL so that a commit outlives a power cut; no remains."""

    def connected(connection: Any, _record: object) -> None:
        # We begin transactions ourselves: the driver's own way takes the write lock too late.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=30000",
            f"wal_autocheckpoint={_CHECKPOINT}",
            "secure_delete=ON",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def began(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
