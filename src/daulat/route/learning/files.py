"""Rows of a file: JSON lines, CSV or Parquet, told apart by how the file begins; and files written whole.

Every row is a mapping from column to value, with its place. Not here: what else columns mean (`assembling`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from daulat import whole
from daulat.errors import DataError
from daulat.route.learning.cells import NUMBERS, Place, fail

MAX_LINE: Final = 1 << 27
"""Bytes of a line of JSON."""
MAX_FILE: Final = 1 << 33
MAX_COLUMNS: Final = 1024
_PARQUET: Final = b"PAR1"
_BATCH: Final = 1024

Row = Mapping[str, Any]


def rows(path: Path) -> Iterator[tuple[Place, Row]]:
    """The rows of a file, each with its place.

    Raises:
        DataError: the file cannot be read, is too large, or is in none of the three formats.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if size > MAX_FILE:
        raise DataError(f"{path} is larger than {MAX_FILE >> 30} GiB. Take a sample of its lines.")
    if start.startswith(_PARQUET):
        return _parquet(path)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return _json_lines(path)
    return _csv(path)


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file, all of it or nothing.

    Raises:
        DataError: it cannot be written.
    """
    try:
        whole.write(path, pieces)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error


def _json_lines(path: Path) -> Iterator[tuple[Place, Row]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            place = Place(path.name, number)
            if len(line) == MAX_LINE:
                fail(
                    place,
                    f"the line is longer than {MAX_LINE >> 20} MiB. Write one example a line.",
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield place, _object(line, place)


def _object(line: bytes, place: Place) -> Row:
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        fail(place, "the line is not UTF-8. Save the file as UTF-8.")
    except (ValueError, RecursionError) as error:
        fail(place, f"the line is not JSON ({error}). Write one JSON object a line.")
    if not isinstance(value, dict):
        fail(place, "the line is not a JSON object. Write one object a line, not a list.")
    return cast("dict[str, Any]", value)


def _csv(path: Path) -> Iterator[tuple[Place, Row]]:
    csv.field_size_limit(MAX_LINE)
    place = Place(path.name, 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline(1 << 16))
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            heads = _heads(next(reader, list[str]()), place)
            for cells in reader:
                place = Place(path.name, reader.line_num)
                if any(cells):
                    yield place, _named(heads, cells, place, decimal_comma=delimiter == ";")
    except UnicodeDecodeError:
        fail(place, "here or soon after, the file is not UTF-8. Save it as UTF-8.")
    except csv.Error as error:
        fail(
            place, f"the row cannot be read ({error}). Put texts in double quotes, quotes doubled."
        )


def _delimiter(head: str) -> str:
    return max(",;\t", key=head.count)


def _heads(cells: list[str], place: Place) -> list[str]:
    heads = [cell.strip() for cell in cells]
    if len(heads) > MAX_COLUMNS:
        fail(place, f"there are {len(heads)} columns; at most {MAX_COLUMNS} are read.")
    twice = next((head for head in heads if head and heads.count(head) > 1), None)
    if twice is not None:
        fail(place.at(twice), "two columns have this name. Rename one of them.")
    return heads


def _named(heads: list[str], cells: list[str], place: Place, *, decimal_comma: bool) -> Row:
    if len(cells) != len(heads):
        fail(
            place,
            f"the row that ends here has {len(cells)} cells, the heading {len(heads)}. Put texts with "
            "separators or line breaks in double quotes.",
        )
    named: dict[str, str | None] = {
        head: cell or None for head, cell in zip(heads, cells, strict=True) if head
    }
    if decimal_comma:
        numbers = [head for head in named if head.rpartition(".")[2] in NUMBERS]
        named |= {head: _pointed(named[head]) for head in numbers}
    return named


def _pointed(cell: str | None) -> str | None:
    """0,5 as 0.5: spreadsheets that separate cells with semicolons write it so."""
    whole, comma, part = (cell or "").strip().partition(",")
    fits = comma and part.isdecimal() and whole.removeprefix("-").isdecimal()
    return f"{whole}.{part}" if fits else cell


def _parquet(path: Path) -> Iterator[tuple[Place, Row]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            f"{path.name} is Parquet, which needs another package: pip install 'daulat[parquet]'."
        ) from error
    number = 0
    damaged = cast("type[Exception]", pa.ArrowException)  # pyright: ignore[reportUnknownMemberType]
    try:
        with pq.ParquetFile(path) as file:  # pyright: ignore[reportUnknownVariableType]
            for batch in file.iter_batches(_BATCH):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                for row in cast("list[Row]", batch.to_pylist()):  # pyright: ignore[reportUnknownMemberType]
                    number += 1
                    yield Place(path.name, number, "row"), row
    except (damaged, OSError) as error:
        raise DataError(f"{path.name} is not a sound Parquet file ({error}).") from error
