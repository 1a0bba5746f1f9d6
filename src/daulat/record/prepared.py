"""Statements of the hot path: put together by SQLAlchemy once, then given to the driver as they are.

A request writes a dozen rows, and SQLAlchemy's care for each statement (events, results, types) costs more
than the database does; while it takes care, no other thread of the process runs. Only for statements whose
values need no conversion: texts, whole numbers and bytes. Errors of the driver come as SQLAlchemy's own.

Not here: transactions (`store`), any other statement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement as a driver takes it.

    Attributes:
        order: of the values; None: the driver takes them by name.
        constants: values that the statement has of its own.
    """

    text: str
    order: list[str] | None
    constants: dict[str, Any]

    def values(self, given: Values) -> Any:
        if self.constants:
            given = {**self.constants, **given}
        return given if self.order is None else [given[name] for name in self.order]


class Prepared:
    """One statement.

    Args:
        columns: the names of the values of an insert or update without a VALUES clause of its own.
    """

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement: Any = statement
        self._columns = columns
        self._texts: dict[tuple[Any, ...], _Text] = {}

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Once for each row.

        Raises:
            SQLAlchemyError: the database refused.
        """
        text = self._text(connection, rows[0])
        values = [text.values(row) for row in rows]
        with _cursor(connection, text.text) as cursor:
            if len(values) == 1:
                cursor.execute(text.text, values[0])
            else:
                cursor.executemany(text.text, values)

    def rows(self, connection: Connection, values: Values) -> list[tuple[Any, ...]]:
        """What a query gives. A value that is a list stands for an `IN` that expands.

        Raises:
            SQLAlchemyError: the database refused.
        """
        text = self._text(connection, values)
        with _cursor(connection, text.text) as cursor:
            cursor.execute(text.text, text.values(_flat(values)))
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def _text(self, connection: Connection, values: Values) -> _Text:
        lengths = tuple(len(cast("list[Any]", v)) for v in values.values() if isinstance(v, list))
        place = (connection.dialect.name, *lengths)
        if place not in self._texts:
            statement = self._statement.params(dict(values)) if lengths else self._statement
            compiled = statement.compile(
                dialect=connection.dialect,
                column_keys=self._columns,
                compile_kwargs={"render_postcompile": bool(lengths)},
            )
            # What expands has been given all its values, and no constants of its own.
            params: dict[str, Any] = {} if lengths else compiled.params
            constants = {name: value for name, value in params.items() if name not in values}
            self._texts[place] = _Text(str(compiled), compiled.positiontup, constants)
        return self._texts[place]


def _flat(values: Values) -> dict[str, Any]:
    """Each item of a list under a name of its own, as SQLAlchemy numbers them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list):
            flat |= {f"{name}_{i}": one for i, one in enumerate(cast("list[Any]", value), 1)}
        else:
            flat[name] = value
    return flat


@contextlib.contextmanager
def _cursor(connection: Connection, text: str) -> Generator[Any]:
    """A cursor of the driver's, closed in any case: one that is left open would hold SQLite's snapshot."""
    try:
        with contextlib.closing(_raw(connection).cursor()) as cursor:
            yield cursor
    except Exception as error:
        raise _ours(connection, text, error) from error


def _raw(connection: Connection) -> Any:
    return connection.connection


def _ours(connection: Connection, text: str, error: Exception) -> Exception:
    """SQLAlchemy's error for one of the driver's."""
    driver = connection.dialect.loaded_dbapi
    if not isinstance(error, driver.Error):
        return error
    return DBAPIError.instance(text, None, error, driver.Error, dialect=connection.dialect)
