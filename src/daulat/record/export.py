"""The record as JSON lines, and the proof of such a file alone.

A line is `{"entry": …, "hash": …, "contents": {name: {"salt": hex, "body": …}}}`; the last one is
`{"head": "seq:hash"}`. The hash is over the canonical JSON of `entry`, so any program can check it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from daulat.canon import canonical
from daulat.errors import RequestError
from daulat.record.store import Record
from daulat.record.verify import FaultFound, Link, Stored, Verdict, Walk, anchor, stored_links

MAX_LINE = 256 << 20


def export(record: Record, out: IO[bytes]) -> int:
    """Write all entries with the contents that are kept; how many entries there were.

    Raises:
        RecordError: the record cannot be read.
    """
    count, hash = 0, "0" * 64
    with record.reading() as connection:
        for link in stored_links(connection):
            # The entry's bytes as they were hashed, not written anew.
            rest = canonical({"contents": _contents_out(link.contents), "hash": link.hash})
            out.write(b'{"entry":' + link.data + b"," + rest[1:] + b"\n")
            count, hash = link.seq, link.hash
    out.write(canonical({"head": f"{count}:{hash}"}) + b"\n")
    return count


def verify_export(path: Path, *, head: str | None = None) -> Verdict:
    """Walk an exported file.

    Raises:
        RequestError: it is not an export, or `head` is not of its form.
    """
    walk = Walk(anchor(head))
    end: tuple[int, str] | None = None
    try:
        for line in _lines(path):
            if "head" in line:
                end = anchor(str(line["head"])) or (0, "0" * 64)
                break
            walk.step(_link(line))
        if end is None:
            raise RequestError(f"{path} has no last line with the head: it is cut off.")
        walk.end(*end)
    except FaultFound as found:
        return Verdict(walk.seq, f"{walk.seq}:{walk.hash}", found.fault)
    return Verdict(walk.seq, f"{walk.seq}:{walk.hash}", None)


def _contents_out(contents: Stored) -> dict[str, Any]:
    return {
        name: {"salt": salt.hex(), "body": None if body is None else json.loads(body)}
        for name, (salt, body) in contents.items()
    }


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE):
                yield _object(json.loads(line))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not an export of a record: a line is not JSON.") from error


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("This is not an export of a record: a line is not a JSON object.")
    return cast("dict[str, Any]", value)


def _link(line: Mapping[str, Any]) -> Link:
    try:
        entry = _object(line["entry"])
        contents = {
            name: (
                bytes.fromhex(one["salt"]),
                None if one["body"] is None else canonical(one["body"]),
            )
            for name, one in line["contents"].items()
        }
        return Link(int(entry["seq"]), str(line["hash"]), canonical(entry), None, contents)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError("This is not an export of a record: a line lacks a field.") from error
