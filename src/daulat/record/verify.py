"""The proof: every entry is what it was, where it was, and linked to the one before.

What it finds: an entry changed, removed, inserted or moved; contents changed, or removed without an entry
that says so; a tail cut off. What no chain can find by itself is a tail rewritten as a whole by somebody
who may write to the database: against that, keep the head (`seq:hash`) elsewhere and give it to `verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select

from daulat.errors import RequestError
from daulat.record import schema
from daulat.record.chain import Entry, commitment, parse
from daulat.record.store import REMOVED, Record

What = Literal[
    "changed", "removed", "inserted", "reordered", "contents changed", "contents missing"
]
Progress = Callable[[int, int], None]
Stored = Mapping[str, tuple[bytes, bytes | None]]
"""Contents' name to (salt, bytes or None)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry that is not as it was."""

    seq: int
    what: What
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Attributes:
    entries: how many were looked at.
    head: `seq:hash` of the last sound entry.
    fault: None where the record is sound.
    """

    entries: int
    head: str
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as stored. `columns` are the copies that the database searches by; None in an export."""

    seq: int
    hash: str
    data: bytes
    columns: tuple[str, str, str] | None
    contents: Stored


class FaultFound(Exception):
    """Carries the first fault out of the walk."""

    def __init__(self, seq: int, what: What, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(seq, what, message)


class Walk:
    """Goes along the chain, one link after the other.

    Args:
        anchor: a head that was noted earlier, (seq, hash).
    """

    def __init__(self, anchor: tuple[int, str] | None) -> None:
        self.seq = 0
        self.hash = schema.EMPTY_HASH
        self._anchor = anchor
        self._missing: dict[int, str] = {}
        self._displaced: int | None = None

    def step(self, link: Link) -> None:
        """Look at the next link.

        Raises:
            FaultFound: it is not what must follow.
        """
        entry = self._entry(link)
        if self._displaced is not None:
            what: What = "reordered" if entry.seq == self._displaced else "removed"
            raise FaultFound(self._displaced, what, "Another entry was moved into its place.")
        self._place(link, entry)
        if self._displaced is not None:
            return
        if link.columns not in (None, (entry.time, entry.kind, entry.subject)):
            raise FaultFound(
                entry.seq, "changed", "The columns that it is found by differ from what was hashed."
            )
        self._contents(link, entry)
        if self._anchor is not None and self._anchor[0] == entry.seq:
            if self._anchor[1] != entry.hash:
                raise FaultFound(entry.seq, "changed", "Its hash is not the one noted earlier.")
            self._anchor = None
        self.seq, self.hash = entry.seq, entry.hash

    def end(self, seq: int, hash: str) -> None:
        """The chain must end at the head that was stored with it.

        Raises:
            FaultFound: it does not.
        """
        if self._displaced is not None:
            raise FaultFound(self._displaced, "removed", "Another entry was moved into its place.")
        if seq > self.seq:
            raise FaultFound(self.seq + 1, "removed", f"The record ended at entry {seq}.")
        if seq < self.seq:
            raise FaultFound(seq + 1, "inserted", f"The record ended at entry {seq}.")
        if hash != self.hash:
            raise FaultFound(seq, "changed", "The record's last hash is another one.")
        if self._anchor is not None:
            raise FaultFound(
                self.seq + 1, "removed", f"Entry {self._anchor[0]}, noted earlier, is not there."
            )
        if self._missing:
            first = min(self._missing)
            raise FaultFound(
                first,
                "contents missing",
                f"Its contents {self._missing[first]!r} are gone, and no entry says why.",
            )

    def _entry(self, link: Link) -> Entry:
        if hashlib.sha256(link.data).hexdigest() != link.hash:
            # A hole comes first: what follows it is then judged in its place.
            if link.seq > self.seq + 1:
                raise FaultFound(self.seq + 1, "removed", f"Entry {link.seq} follows {self.seq}.")
            raise FaultFound(link.seq, "changed", "Its bytes do not match its hash.")
        try:
            return parse(link.data, link.hash)
        except ValueError:
            raise FaultFound(link.seq, "changed", "Its bytes are not an entry.") from None

    def _place(self, link: Link, entry: Entry) -> None:
        due = self.seq + 1
        if link.seq != due:
            raise FaultFound(due, "removed", f"Entry {link.seq} follows entry {self.seq}.")
        if entry.seq == due + 1:
            # Removed and closed up, or moved further down: the next entry tells.
            self._displaced = due
            return
        if entry.seq == due - 1 and entry.previous != self.hash:
            raise FaultFound(due - 1, "inserted", f"The true entry {entry.seq} stands behind it.")
        if entry.seq != due:
            raise FaultFound(due, "reordered", f"Entry {entry.seq} stands in its place.")
        if entry.previous != self.hash:
            # Sound in itself, and so was the one before: that one is not the one it was linked to.
            raise FaultFound(
                max(self.seq, 1), "changed", f"Entry {due} was linked to another entry before it."
            )

    def _contents(self, link: Link, entry: Entry) -> None:
        for name, (expected, kept) in entry.commitments.items():
            if name not in link.contents:
                self._missing.setdefault(entry.seq, name)
                continue
            salt, body = link.contents[name]
            if (body is not None) != kept or (
                body is not None and commitment(salt, body) != expected
            ):
                raise FaultFound(
                    entry.seq, "contents changed", f"Its contents {name!r} are not what they were."
                )
        extra = set(link.contents) - set(entry.commitments)
        if extra:
            raise FaultFound(
                entry.seq, "contents changed", f"Contents {min(extra)!r} were added to it."
            )
        if entry.kind == REMOVED:
            self._explain(entry)

    def _explain(self, entry: Entry) -> None:
        """An entry that says which contents were removed."""
        ranges: Sequence[Any] = entry.body.get("entries", [])
        for first, last in ranges:
            for seq in [s for s in self._missing if first <= s <= last]:
                del self._missing[seq]


def verify(record: Record, *, head: str | None = None, progress: Progress | None = None) -> Verdict:
    """Walk the whole record.

    Args:
        head: `seq:hash` noted earlier.
        progress: told (entries done, entries in all) now and then.

    Raises:
        RequestError: `head` is not of that form.
        RecordError: the record cannot be read.
    """
    walk = Walk(anchor(head))
    with record.reading() as connection:
        h = schema.head.c
        end = connection.execute(select(h.seq, h.hash)).one()
        try:
            for link in stored_links(connection):
                walk.step(link)
                if progress is not None and walk.seq % 100 == 0:
                    progress(walk.seq, end.seq)
            walk.end(end.seq, end.hash)
        except FaultFound as found:
            return Verdict(walk.seq, f"{walk.seq}:{walk.hash}", found.fault)
    if progress is not None:
        progress(end.seq, end.seq)
    return Verdict(walk.seq, f"{walk.seq}:{walk.hash}", None)


def anchor(head: str | None) -> tuple[int, str] | None:
    """`seq:hash` taken apart.

    Raises:
        RequestError: not of that form.
    """
    if head is None:
        return None
    seq, colon, hash = head.strip().partition(":")
    if not (colon and seq.isdecimal() and len(seq) <= 18 and len(hash) == 64):
        raise RequestError(
            "A head is a number, a colon and 64 hexadecimal digits, as `daulat record verify` "
            "prints it.",
            param="head",
        )
    return (int(seq), hash.lower()) if int(seq) else None


def stored_links(connection: Connection) -> Iterator[Link]:
    """All entries as stored, a few hundred in memory at a time."""
    e, c = schema.entries.c, schema.contents.c
    rows = connection.execute(
        select(schema.entries).order_by(e.seq).execution_options(yield_per=200)
    )
    for part in rows.partitions():
        span = c.seq.between(part[0].seq, part[-1].seq)
        contents: dict[int, dict[str, tuple[bytes, bytes | None]]] = {}
        for row in connection.execute(select(schema.contents).where(span)):
            body = None if row.body is None else _bytes(row.body)
            contents.setdefault(row.seq, {})[row.name] = (_bytes(row.salt), body)
        for row in part:
            columns = (row.time, row.kind, row.subject)
            yield Link(row.seq, row.hash, _bytes(row.data), columns, contents.get(row.seq, {}))


def _bytes(value: bytes | str) -> bytes:
    # SQLite takes a text where we store bytes; whoever tampers may leave one.
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
