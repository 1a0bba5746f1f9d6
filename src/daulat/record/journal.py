"""What is told before SQLite has it: entries in two files beside the database, a flush each.

An entry takes one write here, to blocks that the file has already, and no other process; what is here goes
into the database a little later, many in one transaction, and is then wiped: a text must not outlive its
removal. The two files take turns, so that one can be wiped while the other is written. Who dies leaves them,
and whoever opens the database next enters what they hold (`left`), once: an entry is known by its bytes.

A file begins with `_MAGIC`; then frames (`frames.new`), each behind its CRC-32; then zeros. What a power cut
left of a frame ends the file, for nobody was told of it. Its lock is its owner's for as long as that lives.

Not here: who is told what, and when (`link`), in which order entries reach the database (`committing`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daulat.errors import RecordError
from daulat.record import frames
from daulat.record.entering import New

SIZE: Final = 4 << 20
"""Bytes of a file: some 2,000 entries of an ordinary chat."""
_MAGIC: Final = b"daulat-ahead-1\n\0"
_CHECK: Final = struct.Struct(">I")
_SLICE: Final = 256 << 10
"""So much is wiped at once: a flush of the other file waits for it."""
_GONE: Final = 10.0
"""Seconds in which a text leaves the files of a server that is at work: two turns take two."""
_PAUSE: Final = 0.05
_ENDS: Final = (".a", ".b")

log = logging.getLogger(__name__)


class Side:
    """One of the files. `last`: the number of its last entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = -1
        self._used = len(_MAGIC)
        self._file = _created(path)
        self._lock = threading.Lock()

    @property
    def clean(self) -> bool:
        """Whether nothing is in it."""
        return self._used == len(_MAGIC)

    def fits(self, size: int) -> bool:
        """Whether so many bytes have room."""
        return self._used + size <= SIZE

    def put(self, data: bytes, last: int) -> None:
        """Append, and see that it is on disk.

        Raises:
            OSError: it may be there or not.
        """
        with self._lock:
            at, self._used, self.last = self._used, self._used + len(data), last
            _write(self._file, data, at)
            os.fdatasync(self._file)

    def wipe(self) -> None:
        """Zeros over all entries, on disk when this returns; also from another thread.

        Raises:
            OSError: they may be there still.
        """
        with self._lock:
            for start in range(len(_MAGIC), self._used, _SLICE) if self._file >= 0 else ():
                _write(self._file, bytes(min(_SLICE, self._used - start)), start)
                os.fdatasync(self._file)
            self._used = len(_MAGIC)

    def close(self) -> None:
        """Let go of the file, and of its lock; nothing is written to it from now on."""
        with self._lock:
            os.close(self._file)
            self._file = -1


class Journal:
    """A process's own two files; they are there, zeros on disk, when this returns.

    Args:
        where: the database's path.
        name: of these files alone.

    Raises:
        OSError: they cannot be made.
    """

    def __init__(self, where: Path, name: str) -> None:
        folder = folder_of(where)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._sides: list[Side] = []
        try:
            for end in _ENDS:
                self._sides.append(Side(folder / f"{name}{end}"))
            for place in (folder, folder.parent):
                _flush_folder(place)
        except OSError:
            self.remove()
            raise

    @property
    def clean(self) -> bool:
        """Whether nothing is in the file that is written."""
        return self._sides[0].clean

    def fits(self, size: int) -> bool:
        """Whether so many bytes (`sized`) have room; the other file is taken where this one is full."""
        return self._sides[0].fits(size) or (self.turn() and self._sides[0].fits(size))

    def write(self, many: Sequence[bytes], last: int) -> None:
        """Put frames on disk. `last`: the number of the last one.

        Raises:
            OSError: they may be there or not.
        """
        self._sides[0].put(b"".join(_CHECK.pack(zlib.crc32(one)) + one for one in many), last)

    def turn(self) -> bool:
        """Take the other file, if it is clean and this one is not."""
        ours, other = self._sides
        if ours.clean or not other.clean:
            return False
        self._sides = [other, ours]
        return True

    def done_with(self, number: int) -> Side | None:
        """The file that is to be wiped when the database has all up to that number, if there is one."""
        other = self._sides[1]
        return None if other.clean or other.last > number else other

    def remove(self) -> None:
        """The files, when the database has all that they hold."""
        _unlink([side.path for side in self._sides])
        self.leave()

    def leave(self) -> None:
        """Let go of the files, so that another process can take them over."""
        for side in self._sides:
            side.close()


@dataclass(frozen=True, slots=True)
class Left:
    """What a process that is gone has left. `entries`: what its files hold, in order."""

    entries: Sequence[New]
    paths: Sequence[Path]

    def remove(self) -> None:
        """When the database has them."""
        _unlink(self.paths)


def sized(frame: bytes) -> int:
    """The bytes that a frame takes."""
    return _CHECK.size + len(frame)


def folder_of(where: Path) -> Path:
    """Where the files of a database's processes are."""
    place = where.resolve()  # SQLite follows links, too
    return place.with_name(f"{place.name}.ahead")


@contextlib.contextmanager
def left(where: Path) -> Generator[tuple[list[Left], list[str]]]:
    """What processes that are gone have left, nobody else's for as long as this lasts; and the names of the
    files of those that are not gone, or are letting go just now.

    Raises:
        RecordError: another version of Daulat wrote it.
    """
    found, held = list[Left](), list[str]()
    with contextlib.ExitStack() as stack:
        for path in sorted(folder_of(where).glob(f"*{_ENDS[0]}")):
            with contextlib.suppress(FileNotFoundError):
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                stack.callback(os.close, file)
                if not _lock(file):
                    held.append(path.name)
                elif _is(path, file):
                    paths = [path.with_suffix(end) for end in _ENDS]
                    found.append(Left(_entries(paths), paths))
        yield found, held


def _entries(paths: Sequence[Path]) -> list[New]:
    found = [one for path in paths for one in read(_bytes(path))]
    return [one for _, one in sorted(found, key=lambda numbered: numbered[0])]


def forget(where: Path, subject: str) -> None:
    """Wait until no process's files name a subject: the database has all that was told of it.

    Raises:
        RecordError: some still do: a server hangs.
    """
    named, until = subject.encode(), time.monotonic() + _GONE
    for path in folder_of(where).glob("*"):
        while named in _bytes(path):
            if time.monotonic() > until:
                raise RecordError(
                    f"Texts of {subject} are in {path}, too: a server does not go on. Stop it, and try again."
                )
            time.sleep(_PAUSE)


def read(data: bytes) -> Iterator[tuple[int, New]]:
    """The numbers and entries in a file's bytes.

    Raises:
        RecordError: another version of Daulat wrote it.
    """
    if not any(data):  # not begun
        return
    if not data.startswith(_MAGIC):
        raise RecordError(
            "Another version of Daulat has left entries beside the record: start that version once."
        )
    at = len(_MAGIC)
    while at + _CHECK.size + frames.HEADER.size <= len(data):
        (check,) = _CHECK.unpack_from(data, at)
        at += _CHECK.size
        (length,) = frames.HEADER.unpack_from(data, at)
        frame = data[at : at + frames.HEADER.size + length]
        if not length or zlib.crc32(frame) != check:
            return
        at += len(frame)
        yield frames.read_new(frame[frames.HEADER.size :])


def _bytes(path: Path) -> bytes:
    """What is in a file; nothing where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _created(path: Path) -> int:
    """A file of ours: locked, and of zeros that have their places on the disk."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is(path, file):
                os.truncate(file, 0)
                _write(file, _MAGIC + bytes(SIZE - len(_MAGIC)), 0)
                os.fsync(file)
                return file
        except OSError:
            path.unlink(missing_ok=True)
            os.close(file)
            raise
        os.close(file)  # somebody found it between its creation and our lock, and removed it


def _write(file: int, data: bytes, at: int) -> None:
    """All of it: a disk that is nearly full takes a part."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(file, rest, at)
        at, rest = at + count, rest[count:]


def _unlink(paths: Sequence[Path]) -> None:
    """The one with the lock goes last: without it the other would be nobody's."""
    for path in sorted(paths, reverse=True):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # whoever opens the record next enters nothing twice
            log.warning("a file beside the record stays", extra={"why": str(error)})


def _is(path: Path, file: int) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush_folder(path: Path) -> None:
    """A new file's name is on disk only then."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
