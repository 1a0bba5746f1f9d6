"""Rows out of files that people have: CSV and its relatives, JSON lines, JSON, Parquet; also gzipped.

A row is a mapping from its columns' names to plain JSON values, with the line that it begins at. Whatever is
wrong is told with file, line and column. Not here: what a column means (`columns`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from daulat.errors import DataError

MAX_FILE: Final = 2 << 30
"""Bytes, unpacked."""
MAX_ROW: Final = 16 << 20
"""Bytes of one line of JSON, characters of one cell."""
MAX_COLUMNS: Final = 1_000
MAX_JSON: Final = 256 << 20
"""Bytes of a file that is one JSON value, and so is in memory at once."""

_DELIMITERS: Final = ",;\t|"
_CSV: Final = (".csv", ".tsv", ".tab")
_LINES: Final = (".jsonl", ".ndjson")
_KNOWN: Final = ".csv, .tsv, .jsonl, .ndjson, .json or .parquet, each also with .gz behind it"


@dataclass(frozen=True, slots=True)
class Row:
    """Attributes:
    line: of the file, from 1; of a file without lines, the number of the row.
    """

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, for messages."""

    file: str
    line: int
    column: str = ""

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        return f"{self.file}, line {self.line}{column}"


def read(path: Path) -> Iterator[Row]:
    """The rows of a file, in order.

    Raises:
        DataError: it is not of a form that we read, damaged, or out of bounds.
    """
    match _kind(path):
        case "csv":
            return _csv(path)
        case "lines":
            return _lines(path)
        case "json":
            return _json(path)
        case _:
            return _parquet(path)


def digest(path: Path) -> str:
    """SHA-256 of the file's bytes, as `canon.digest` writes it.

    Raises:
        DataError: it cannot be read.
    """
    found = hashlib.sha256()
    with _plain(path) as file:
        while part := file.read(1 << 20):
            found.update(part)
    return "sha256:" + found.hexdigest()


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    last = suffixes[-1] if suffixes else ""
    if last in _CSV:
        return "csv"
    if last in _LINES:
        return "lines"
    if last in (".json", ".parquet"):
        return last[1:]
    raise DataError(f"{path.name} has no name by which its form is known: {_KNOWN}.")


# --- forms ----------------------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        with _told(path):
            lines = _bounded(text, path)
            first = next(lines, "")
            delimiter = _delimiter(first)
            csv.field_size_limit(MAX_ROW)
            begun = 1
            try:
                # The first line may be a part of a header cell that goes on: it is read again by csv.
                reader = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
                header = _header(next(reader, list[str]()), path)
                begun = reader.line_num + 1
                for cells in reader:
                    line, begun = begun, reader.line_num + 1
                    if cells:
                        yield Row(line, _named(header, cells, Place(path.name, line)))
            except csv.Error as error:
                raise DataError(
                    f"{path.name}, near line {begun}: {error}. Save it as CSV again, with texts that hold "
                    "line ends or quotes in double quotes."
                ) from error


def _lines(path: Path) -> Iterator[Row]:
    with _opened(path) as file, _told(path):
        number = 0
        while data := file.readline(MAX_ROW + 1):
            number += 1
            if len(data) > MAX_ROW:
                raise DataError(f"{path.name}, line {number} has more than {MAX_ROW} bytes.")
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield Row(number, _parsed(text, Place(path.name, number)))


def _json(path: Path) -> Iterator[Row]:
    with _opened(path) as file, _told(path):
        data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise DataError(
                f"{path.name} has more than {MAX_JSON} bytes of JSON in one piece: make it JSON lines, "
                "an object a line (.jsonl)."
            )
        try:
            told = json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(told, list):
        raise DataError(f"{path.name} is not a list of objects, one for each example.")
    for number, one in enumerate(cast("list[Any]", told), 1):
        if not isinstance(one, dict):
            raise DataError(f"{path.name}, entry {number} is not a JSON object.")
        yield Row(number, cast("dict[str, Any]", one))


def _parquet(path: Path) -> Iterator[Row]:
    try:
        # Large, and only for files of this form.
        from pyarrow import parquet  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise DataError(
            "Parquet needs a package: install it with `pip install 'daulat[parquet]'`."
        ) from error
    library: Any = parquet
    with _opened(path) as file:
        try:
            source = library.ParquetFile(file)
            _check_columns(source.schema_arrow.names, path)
            number = 0
            for batch in source.iter_batches(batch_size=1_000):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, {name: _plain_value(value) for name, value in values.items()})
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{path.name} is no sound Parquet file: {str(error)[:200]}.") from error


def _plain_value(value: Any) -> Any:
    """What Arrow gives, as JSON has it: what is no such value is its text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {str(name): _plain_value(one) for name, one in items}
    if isinstance(value, list):
        return [_plain_value(one) for one in cast("list[Any]", value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# --- parts ----------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """The file's bytes, unpacked where it is gzipped.

    Raises:
        DataError: it cannot be read.
    """
    with _plain(path) as file:
        if path.suffix.lower() == ".gz":
            with gzip.open(file) as unpacked:
                yield unpacked
        else:
            yield file


@contextmanager
def _plain(path: Path) -> Generator[Any]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _told(path: Path) -> Generator[None]:
    """What goes wrong between the bytes and the text, in our words."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 ({error.reason}): save it as UTF-8 and add it again."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is no whole gzip file: {error}.") from error


def _bounded(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    size = 0
    while line := text.readline(MAX_ROW + 1):
        size += len(line)
        if len(line) > MAX_ROW or size > MAX_FILE:
            raise DataError(
                f"{path.name} is too large: {MAX_ROW} characters a line and {MAX_FILE} in all are the most."
            )
        yield line


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(first: str) -> str:
    """The one that parts the header into the most cells; a comma where none does."""
    return max(_DELIMITERS, key=lambda mark: (first.count(mark), mark == ","))


def _header(names: Sequence[str], path: Path) -> list[str]:
    header = [name.strip() for name in names]
    if not any(header):
        raise DataError(f"{path.name} has no first line with the names of its columns.")
    _check_columns(header, path)
    return header


def _check_columns(names: Sequence[str], path: Path) -> None:
    """Raises DataError: too many, or one twice."""
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path.name} has {len(names)} columns; {MAX_COLUMNS} are the most.")
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{path.name}, line 1 has the column {name!r} twice: rename one.")


def _named(header: Sequence[str], cells: Sequence[str], place: Place) -> dict[str, str]:
    """Cells by their columns; those that are missing at the end are empty.

    Raises:
        DataError: there are more cells than columns.
    """
    if len(cells) > len(header):
        raise DataError(
            f"{place} has {len(cells)} cells and the first line names {len(header)} columns: put a text "
            "that holds the delimiter in double quotes."
        )
    full = [*cells, *[""] * (len(header) - len(cells))]
    return {name: cell for name, cell in zip(header, full, strict=True) if name}


def _parsed(text: str, place: Place) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(told, dict):
        raise DataError(f"{place} is not a JSON object: write one object a line.")
    return cast("dict[str, Any]", told)
