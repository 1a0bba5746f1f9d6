"""Rows out of files of examples: the forms that outcome files have, and a list of objects as one piece of JSON.

Not here: those forms (`route.learning.files`), what a column means (`columns`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from daulat.errors import DataError
from daulat.route.learning import files
from daulat.route.learning.cells import Place, fail

MAX_JSON: Final = 256 << 20
"""Bytes of a file that is one JSON value, and so is in memory at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row's values by the names of their columns, with its place."""

    place: Place
    values: Mapping[str, Any]


def read(path: Path) -> Iterator[Row]:
    """The rows of a file, in order.

    Raises:
        DataError: it cannot be read, is not of a form that we read, or out of bounds.
    """
    found = _listed(path) if path.suffix.lower() == ".json" else files.rows(path)
    return (Row(place, values) for place, values in found)


def digest(path: Path) -> str:
    """SHA-256 of the file's bytes, as `canon.digest` writes it.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error


def _listed(path: Path) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    place = Place(path.name, 1, "entry")
    if len(data) > MAX_JSON:
        fail(
            place, f"the file is larger than {MAX_JSON >> 20} MiB. Write an object a line (.jsonl)."
        )
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from files.rows(path)
        return
    try:
        told = cast("list[Any]", json.loads(data.decode("utf-8-sig")))
    except UnicodeDecodeError:
        fail(place, "the file is not UTF-8. Save it as UTF-8.")
    except (ValueError, RecursionError) as error:
        fail(place, f"the file is not JSON ({str(error)[:200]}). Write one object a line (.jsonl).")
    for number, one in enumerate(told, 1):
        place = Place(path.name, number, "entry")
        if not isinstance(one, dict):
            fail(place, "it is not a JSON object. Write a list of objects.")
        yield place, cast("dict[str, Any]", one)
