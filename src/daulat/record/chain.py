"""Entries, their canonical bytes, their hashes, and commitments to contents.

An entry's hash is the SHA-256 of its canonical bytes, which hold the hash of the entry before. Contents
are not in those bytes: only commitments to them, SHA-256 over 32 random bytes and the contents. So
contents can be removed and the chain still verifies, and what was removed cannot be guessed from what
stays, however short it was: the random bytes go with it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from daulat.canon import canonical
from daulat.errors import RecordError
from daulat.values.chance import random_bytes

MAX_BODY = 1 << 20
MAX_CONTENTS = 64 << 20
SALT_BYTES = 32
_BODY = b'{"body":'


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of the chain.

    Attributes:
        seq: 1, 2, 3 ...
        time: RFC 3339, UTC, microseconds.
        subject: what it is about: the id of an exchange or a key.
        commitments: contents' name to (SHA-256, whether the contents were kept at all).
        previous, hash: 64 hexadecimal digits.
    """

    seq: int
    time: str
    kind: str
    subject: str
    body: Mapping[str, Any]
    commitments: Mapping[str, tuple[str, bool]]
    previous: str
    hash: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that has no place in the chain yet.

    Attributes:
        encoded: the body's canonical bytes.
        contents: name to (salt, bytes or None).
    """

    kind: str
    subject: str
    body: Mapping[str, Any]
    encoded: bytes
    contents: Mapping[str, tuple[bytes, bytes | None]]
    commitments: Mapping[str, tuple[str, bool]]


def draft(
    kind: str, subject: str, body: Mapping[str, Any], contents: Mapping[str, Any], *, keep: bool
) -> Draft:
    """Prepare an entry.

    Args:
        keep: whether contents are kept, or only committed to.

    Raises:
        RecordError: larger than the record takes.
    """
    encoded = canonical(dict(body))
    if len(encoded) > MAX_BODY:
        raise RecordError(f"An entry of the record may have {MAX_BODY} bytes; this one has more.")
    stored: dict[str, tuple[bytes, bytes | None]] = {}
    commitments: dict[str, tuple[str, bool]] = {}
    for name, value in contents.items():
        data = canonical(value)
        if len(data) > MAX_CONTENTS:
            raise RecordError(
                f"Contents in the record may have {MAX_CONTENTS} bytes; these have more."
            )
        salt = random_bytes(SALT_BYTES)
        stored[name] = (salt, data if keep else None)
        commitments[name] = (commitment(salt, data), keep)
    return Draft(kind, subject, body, encoded, stored, commitments)


def link(new: Draft, seq: int, previous: str, moment: str) -> Entry:
    """Give a draft its place in the chain. `moment`: its time, as `now` gives it."""
    rest = canonical(
        {
            "contents": {
                name: {"commitment": value, "kept": kept}
                for name, (value, kept) in new.commitments.items()
            },
            "kind": new.kind,
            "previous": previous,
            "seq": seq,
            "subject": new.subject,
            "time": moment,
        }
    )
    # The body is the first key in the canonical order, and its bytes are there already.
    data = _BODY + new.encoded + b"," + rest[1:]
    return Entry(
        seq,
        moment,
        new.kind,
        new.subject,
        new.body,
        new.commitments,
        previous,
        hashlib.sha256(data).hexdigest(),
        data,
    )


def holds(data: bytes, one: Draft) -> bool:
    """Whether an entry's canonical bytes are those of this draft, wherever in the chain."""
    if not data.startswith(_BODY + one.encoded + b","):
        return False
    entry = parse(data, "")
    return (entry.kind, entry.subject, entry.commitments) == (
        one.kind,
        one.subject,
        one.commitments,
    )


def parse(data: bytes, hash: str) -> Entry:
    """An entry from its canonical bytes.

    Raises:
        ValueError: they are not an entry's.
    """
    try:
        fields = json.loads(data.decode("utf-8", "surrogatepass"))
        return Entry(
            int(fields["seq"]),
            str(fields["time"]),
            str(fields["kind"]),
            str(fields["subject"]),
            dict(fields["body"]),
            {
                str(name): (str(one["commitment"]), bool(one["kept"]))
                for name, one in fields["contents"].items()
            },
            str(fields["previous"]),
            hash,
            data,
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not an entry") from error


def commitment(salt: bytes, data: bytes) -> str:
    """What an entry holds of its contents."""
    return hashlib.sha256(salt + data).hexdigest()


def now() -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_id() -> str:
    """An exchange's id, in order of time: `rec-` and 32 hexadecimal digits (as in UUIDv7, RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    return f"rec-{milliseconds:012x}{random_bytes(10).hex()}"
