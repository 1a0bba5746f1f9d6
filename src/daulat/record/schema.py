"""The record's tables, and a database opened so that nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
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
    select,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from daulat.errors import RecordError

VERSION = 1
EMPTY_HASH = "0" * 64
"""What the first entry has for its predecessor's hash."""

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
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
    Column("seq", Integer, ForeignKey("entries.seq"), primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=True),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
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
)


def open_database(where: str | Path) -> Engine:
    """An engine on a database that has our tables; SQLite for a path.

    Raises:
        RecordError: it cannot be opened, or a newer Daulat has written it.
    """
    try:
        local = URL.create("sqlite", database=str(where))
        engine = create_engine(local if isinstance(where, Path) else where)
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        with engine.execution_options(writing=True).begin() as connection:
            metadata.create_all(connection)
            _check_version(connection)
    except (NoSuchModuleError, ArgumentError, ImportError) as error:
        raise RecordError(
            "record.url names a database that cannot be used. For PostgreSQL install "
            "daulat[postgresql] and write postgresql+psycopg://user@host/name."
        ) from error
    except SQLAlchemyError as error:
        raise RecordError(f"The record cannot be opened: {reason(error)}.") from error
    return engine


def reason(error: SQLAlchemyError) -> str:
    """The driver's own first line, without the statement and its values."""
    return (str(getattr(error, "orig", None) or error).splitlines() or ["unknown"])[0][:200]


def _check_version(connection: Connection) -> None:
    row = connection.execute(select(head.c.version).where(head.c.id == 1)).first()
    if row is None:
        connection.execute(insert(head).values(id=1, seq=0, hash=EMPTY_HASH, version=VERSION))
    elif row.version != VERSION:
        raise RecordError(
            f"The record has format {row.version}; this version of Daulat writes format {VERSION}. "
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
            "secure_delete=ON",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def began(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
