"""Server-sent events: bytes in, events out, however the bytes are cut.

The algorithm of the WHATWG's HTML standard (9.2.6), with two differences. What is not UTF-8 is an error and
not a replacement character, for an answer must not be changed in silence. And an event that the end of the
stream cuts off is given, by `end`: some servers send no blank line behind their last one, and a reader
that finds it incomplete says so.
"""

from __future__ import annotations

from typing import Final

from daulat.endpoints.remote.dialect import ServerEvent
from daulat.errors import UpstreamAnswerError

MAX_EVENT: Final = 4 << 20
_BOM: Final = b"\xef\xbb\xbf"


class Events:
    """One stream. `id` and `retry` are for reconnecting, which an answer cannot; they are ignored."""

    __slots__ = (
        "_after_cr",
        "_broken",
        "_data",
        "_first",
        "_held",
        "_limit",
        "_name",
        "_parts",
        "_size",
    )

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []  # of a line that has not ended
        self._held = 0  # their bytes
        self._data: list[bytes] = []  # of an event that has not ended
        self._size = 0  # its bytes
        self._name = b""
        self._after_cr = False
        self._first = True
        self._broken: UpstreamAnswerError | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that end in these bytes. Behind those that are sound, `check` says what is not.

        Raises:
            UpstreamAnswerError: the first of them is over the limit, or is not UTF-8.
        """
        if not chunk:
            return []
        last = chunk[-1]
        if self._after_cr and chunk[0] == 10:
            chunk = chunk[1:]
            if not chunk:
                self._after_cr = False
                return []
        self._after_cr = last == 13
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        if self._parts:
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
            self._parts, self._held = [], 0
        lines = chunk.splitlines()
        if last not in (10, 13):
            self._hold(lines.pop())
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        found: list[ServerEvent] = []
        try:
            self._find(lines, found)
        except UpstreamAnswerError as error:
            if not found:
                raise
            self._broken = error
        return found

    def check(self) -> None:
        """Raises UpstreamAnswerError: what came behind the events that `feed` has given is none."""
        if self._broken is not None:
            raise self._broken

    def end(self) -> list[ServerEvent]:
        """The event that the end of the stream cuts off, if there is one.

        Raises:
            UpstreamAnswerError: as `feed`.
        """
        self._after_cr = False
        return self.feed(b"\n\n" if self._parts else b"\n")

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        self._limit_to(self._held + self._size)
        self._parts.append(part)

    def _limit_to(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamAnswerError(
                f"The endpoint sent an event of more than {self._limit} bytes.", billable=True
            )

    def _find(self, lines: list[bytes], found: list[ServerEvent]) -> None:
        data = self._data
        for line in lines:
            if not line:
                if data:
                    found.append(self._event(data[0] if len(data) == 1 else b"\n".join(data)))
                    data.clear()
                    self._size = 0
                self._name = b""
            elif line.startswith(b"data:"):
                self._size += len(line)
                self._limit_to(self._size)
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            else:
                self._other(line)

    def _other(self, line: bytes) -> None:
        """A field that is not data with a value: a name, an empty line of data, or nothing to us."""
        field, _colon, value = line.partition(b":")
        if field == b"event":
            self._limit_to(len(value))
            self._name = value.removeprefix(b" ")
        elif field == b"data":
            self._size += 1
            self._limit_to(self._size)
            self._data.append(b"")

    def _event(self, data: bytes) -> ServerEvent:
        try:
            return ServerEvent(data.decode(), self._name.decode())
        except UnicodeDecodeError:
            raise UpstreamAnswerError(
                "The endpoint sent text that is not UTF-8.", billable=True
            ) from None
