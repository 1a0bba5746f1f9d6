"""What people said: `tasks/NAME/labels.jsonl`, a label a line, only ever added to.

A label names the answers that it is of by their digests, so that it never counts for another answer, and how
its example was drawn. Who takes a label back adds a line that says so. Several programs may write at once.
Not here: who is asked what (`sheet`), what labels add up to (`correcting`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from daulat.canon import canonical
from daulat.errors import DataError, RequestError
from daulat.evaluate.examples import checked
from daulat.evaluate.tasks import LABELS

MAX_NAME: Final = 64
MAX_LABELS: Final = 1_000_000
_MAX_LINE: Final = 16_384
_FORMAT: Final = 1

Kind = Literal["pairwise", "score"]
"""`pairwise`: which of two answers is better; `score`: how many points an answer gets."""
KINDS: Final[tuple[str, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Draw:
    """How a label's example was drawn: the first `drawn` of all in a random order.

    Attributes:
        seed: of the order.
        place: the example's in that order, from 0.
        drawn: so many examples are to be labelled.
        of: so many there are.
    """

    seed: int
    place: int
    drawn: int
    of: int

    @property
    def probability(self) -> float:
        """Of any one example to be drawn."""
        return min(1.0, self.drawn / self.of)


@dataclass(frozen=True, slots=True)
class Label:
    """What one person said of one answer, or of two.

    Attributes:
        time: ISO 8601, UTC.
        by: who said it, as they call themselves.
        key: whose key it came with; empty: from the terminal.
        example: its id.
        endpoints: whose answers were shown, in the order in which they were.
        answers: the answers' digests (SHA-256 of the text).
        value: 0 to 1: the score, or how far the answer shown first is preferred; None: they could not tell.
        scale: of a score, `1-5`; empty: of two answers.
        automatic: both answers are the same text, and nobody was asked.
        seconds: that it took.
    """

    id: str
    time: str
    by: str
    key: str
    kind: Kind
    example: str
    endpoints: tuple[str, ...]
    answers: tuple[str, ...]
    value: float | None
    scale: str
    draw: Draw
    automatic: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A label is taken back."""

    withdraws: str
    time: str
    by: str


class Labels:
    """A task's labels.

    Args:
        folder: the task's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LABELS
        self._found: dict[str, Label] = {}
        self._read = 0
        self._lines = 0

    def all(self) -> list[Label]:
        """The labels that hold, in the order in which they were given.

        Raises:
            DataError: a line is none.
        """
        # Only ever added to: what was read is not read again.
        for data in self._new():
            self._lines += 1
            entry = _entry(data, f"{self._path.name}, line {self._lines}")
            if isinstance(entry, Withdrawal):
                self._found.pop(entry.withdraws, None)
            else:
                self._found[entry.id] = entry
            self._read += len(data)
        return list(self._found.values())

    def add(self, entries: Sequence[Label | Withdrawal]) -> None:
        """Write entries behind all others; they are on disk when this returns.

        Raises:
            DataError: the file cannot be written.
        """
        data = b"".join(canonical(_told(entry)) + b"\n" for entry in entries)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._held() as file:
                _mend(file)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self._path} cannot be written ({error.strerror}): free the place and label on."
            ) from error

    @contextlib.contextmanager
    def _held(self) -> Generator[Any]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _new(self) -> Iterator[bytes]:
        """The whole lines behind those that were read."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                while data := file.readline(_MAX_LINE + 1):
                    if len(data) > _MAX_LINE or self._lines >= MAX_LABELS:
                        raise DataError(
                            f"{self._path} is no file of labels: a line has more than {_MAX_LINE} bytes, or "
                            f"there are more than {MAX_LABELS} lines."
                        )
                    # A line without its end was being written when the machine went down.
                    if not data.endswith(b"\n"):
                        return
                    yield data
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror}.") from error


def now() -> str:
    """This second, as labels tell it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def answer_digest(text: str) -> str:
    """By what a label names an answer."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _mend(file: Any) -> None:
    """Go to the end, and cut off what is no whole line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_LINE))
    tail = file.read()
    whole = tail.rfind(b"\n") + 1
    file.truncate(size - len(tail) + whole)
    file.seek(0, os.SEEK_END)


# --- as JSON --------------------------------------------------------------------------------------

_DRAW: Final = tuple(one.name for one in fields(Draw))


def _told(entry: Label | Withdrawal) -> dict[str, Any]:
    told = asdict(entry)
    if isinstance(entry, Label):
        told["draw"]["probability"] = entry.draw.probability
    return {"format": _FORMAT, **told}


def _entry(data: bytes, where: str) -> Label | Withdrawal:
    """An entry that `_told` wrote.

    Raises:
        DataError: it is none.
    """
    try:
        told = json.loads(data.decode("utf-8", "surrogatepass"))
        if not isinstance(told, dict) or told.get("format") != _FORMAT:  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("not of this version's form")
        row = cast("dict[str, Any]", told)
        if "withdraws" in row:
            return Withdrawal(*(checked(row[n], n, 200) for n in ("withdraws", "time", "by")))
        return _label(row)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, RequestError) as error:
        raise DataError(
            f"{where} is no label ({str(error)[:120]}). Labels are not edited by hand: put the file back "
            "as it was."
        ) from error


def _label(row: dict[str, Any]) -> Label:
    draw, value = row["draw"], row["value"]
    if row["kind"] not in KINDS or not (value is None or 0 <= float(value) <= 1):
        raise ValueError("a kind or a value is out of bounds")
    return Label(
        **{n: checked(row[n], n, 1000) for n in ("id", "time", "by", "key", "example", "scale")},
        kind=row["kind"],
        endpoints=tuple(checked(one, "endpoints", 1000) for one in row["endpoints"]),
        answers=tuple(checked(one, "answers", 64) for one in row["answers"]),
        value=None if value is None else float(value),
        draw=Draw(*(int(draw[name]) for name in _DRAW)),
        automatic=bool(row["automatic"]),
        seconds=float(row["seconds"]),
    )
