"""Prepared weights on disk: files of our own making, which may be gone at any time and are then made anew.

    $XDG_CACHE_HOME/daulat/prepared/<digest>-<numbers>-v<layout>.safetensors      0600

Each is a safetensors file whose `__metadata__` also holds the SHA-256 of every MiB of its data (`pieces`) and
one over the rest of the header (`seal`). It comes into being by renaming a complete, flushed file. What is
opened is looked at first: owner and mode, the seal, the exact length, and a few pieces, other ones each time;
`daulat models verify` looks at all. Together the files take a bounded room; those unused for longest go first.

Not here: what the tensors mean (`engine.prepared`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import random
import secrets
import stat
import struct
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from daulat.canon import canonical

log = logging.getLogger(__name__)

LAYOUT = 5
"""To be raised when the same weights come to be prepared as other bytes."""
PIECE = 1 << 20
MAX_HEADER = 64 << 20
"""Bytes; a model of a terabyte has as many pieces."""
LEAST = 32 << 20
"""Bytes of weights whose preparation is worth a file."""
_SAMPLES = 3
_PATIENCE = 600.0
"""Seconds that one process waits for another that prepares the same model, before it does so itself."""


def cache_folder() -> Path:
    """Where this program keeps what it can make anew (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daulat"


def shelf_of(mib: int) -> Shelf:
    """The shelf of this user, of so many MiB (`engine.prepared`)."""
    return Shelf(cache_folder() / "prepared", mib << 20)


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor to be written: `dtype` and `shape` in safetensors' words, and its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class Shelf:
    """The folder of prepared weights.

    Args:
        folder: made when it is first written to.
        limit: bytes that all files may take together; 0: nothing is kept.
        least: what takes fewer bytes of weights is not worth a file.
    """

    def __init__(self, folder: Path, limit: int, least: int = LEAST) -> None:
        self.folder = folder
        self.limit = limit
        self.least = least

    def place(self, digest: str, numbers: str) -> Place | None:
        """Where a model's weights are or will be; None: nothing is kept."""
        if not self.limit:
            return None
        name = f"{_stem(digest)}-{numbers}-v{LAYOUT}.safetensors"
        return Place(self, self.folder / name, {"model": digest, "numbers": numbers})

    def files(self, digest: str = "") -> list[Path]:
        """Whole files, of one model or of all, those unused for longest first."""
        found = self.folder.glob(f"{_stem(digest)}*.safetensors")
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def remove(self, digest: str) -> int:
        """Remove what was prepared for a model; bytes freed. Processes that use it keep it until they end."""
        freed = 0
        for path in self.files(digest):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        for path in self.folder.glob(f"{_stem(digest)}*.lock"):
            path.unlink(missing_ok=True)
        return freed

    def verify(self, digest: str) -> list[str]:
        """Compare every byte of what was prepared for a model; the names of those removed as damaged."""
        removed: list[str] = []
        for path in self.files(digest):
            try:
                check(path, full=True)
            except (DamageError, OSError):
                path.unlink(missing_ok=True)
                removed.append(path.name)
        return removed

    def make_room(self, size: int) -> None:
        """Remove the files unused for longest until so many bytes more are within the limit."""
        files = self.files()
        taken = sum(path.stat().st_size for path in files)
        for path in files:
            if taken + size <= self.limit:
                return
            taken -= path.stat().st_size
            path.unlink(missing_ok=True)
            log.info("prepared weights removed", extra={"file": path.name, "why": "room"})


@dataclass(frozen=True, slots=True)
class Place:
    """One model in one number format. `key` is what the file says of itself."""

    shelf: Shelf
    path: Path
    key: Mapping[str, str]

    @property
    def least(self) -> int:
        return self.shelf.least

    def look(self) -> dict[str, str] | None:
        """The metadata of the file, if it is there, ours and sound as far as a quick look tells.

        A damaged one is removed, and the log says so.
        """
        if not self.path.exists():
            return None
        try:
            metadata = check(self.path)
            if any(metadata.get(name) != value for name, value in self.key.items()):
                raise DamageError("it is another model's")
            os.utime(self.path)  # used now: the last to be removed for room
        except (DamageError, OSError) as error:
            self.discard(str(error))
            return None
        return metadata

    def discard(self, why: str) -> None:
        """Remove a file that cannot be used."""
        log.warning("prepared weights are damaged", extra={"file": self.path.name, "why": why})
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Let one process at a time prepare these weights; nothing is wrong if two do, only slow."""
        try:
            self.shelf.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError:
            yield  # nowhere to write: see `write`
            return
        try:
            _wait(descriptor)
            yield
        finally:
            os.close(descriptor)

    def write(self, tensors: Sequence[Stored], metadata: Mapping[str, str]) -> bool:
        """Keep tensors under this place, whole or not at all; whether they are kept."""
        size = sum(len(one.data) for one in tensors)
        temporary = self.path.with_name(f"{self.path.stem}.{secrets.token_hex(8)}.partial")
        try:
            # Those of processes that were killed; we hold the lock.
            for left in self.shelf.folder.glob(f"{self.path.stem}.*.partial"):
                left.unlink(missing_ok=True)
            if size > self.shelf.limit:
                raise OSError("it is larger than engine.prepared allows")
            self.shelf.make_room(size)
            _write(temporary, tensors, {**metadata, **self.key})
            temporary.replace(self.path)
        except OSError as error:
            # A service's user without a home, a full disk: prepared anew at each start.
            why = error.strerror or str(error)
            log.warning("prepared weights are not kept", extra={"file": self.path.name, "why": why})
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True


class DamageError(Exception):
    """A prepared file is not what was written; its message says how."""


def check(path: Path, full: bool = False) -> dict[str, str]:
    """A prepared file's metadata.

    Args:
        full: compare every piece; otherwise the first, the last, and a few others.

    Raises:
        DamageError: it is not what was written, or others could have written it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        _check_owner(status)
        start, header = _header(file.read(8), file, status.st_size)
        metadata = _sealed(header)
        pieces = _pieces(metadata, status.st_size - start)
        numbers = range(len(pieces)) if full else _sample(len(pieces))
        for number in numbers:
            file.seek(start + number * PIECE)
            if hashlib.sha256(file.read(PIECE)).hexdigest() != pieces[number]:
                raise DamageError(f"its piece {number} is not what was written")
    return metadata


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise DamageError("another user could have written it")


def _header(length: bytes, file: IO[bytes], size: int) -> tuple[int, dict[str, Any]]:
    """Where the data begin, and the header."""
    count = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    if not 2 <= count <= min(MAX_HEADER, size - 8):
        raise DamageError("its header is cut off")
    try:
        header: Any = json.loads(file.read(count))
    except (ValueError, RecursionError) as error:
        raise DamageError("its header is not JSON") from error
    if not isinstance(header, dict):
        raise DamageError("its header is not an object")
    return 8 + count, cast("dict[str, Any]", header)


def _sealed(header: dict[str, Any]) -> dict[str, str]:
    """The metadata of a header that is as it was written."""
    metadata: Any = header.get("__metadata__")
    if not isinstance(metadata, dict):
        raise DamageError("it has no metadata")
    found = cast("dict[str, Any]", metadata)
    seal = found.pop("seal", None)
    if seal != _seal(header):
        raise DamageError("its header is not what was written")
    return found


def _seal(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(dict(header))).hexdigest()


def _pieces(metadata: Mapping[str, str], size: int) -> list[str]:
    joined = metadata.get("pieces", "")
    pieces = [joined[at : at + 64] for at in range(0, len(joined), 64)]
    if not pieces or metadata.get("size") != str(size) or len(pieces) != -(-size // PIECE):
        raise DamageError("it is cut off")
    return pieces


def _sample(count: int) -> set[int]:
    others = (random.randrange(count) for _ in range(_SAMPLES))  # noqa: S311 - no secret
    return {0, count - 1, *others}


def _wait(descriptor: int) -> None:
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return


def _stem(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]


def _write(path: Path, tensors: Sequence[Stored], metadata: Mapping[str, str]) -> None:
    head = _described(tensors, metadata)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(head)
        for one in tensors:
            file.write(one.data)
        file.flush()
        os.fsync(file.fileno())


def _described(tensors: Sequence[Stored], metadata: Mapping[str, str]) -> bytes:
    """The length and the header, with the digests of what follows."""
    header: dict[str, Any] = {}
    at = 0
    for one in tensors:
        place = [at, at + len(one.data)]
        header[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": place}
        at = place[1]
    told = {**metadata, "size": str(at), "pieces": "".join(_digests(tensors))}
    header["__metadata__"] = told
    told["seal"] = _seal(header)
    text = canonical(header)
    text += b" " * (-(8 + len(text)) % 64)  # the numbers are aligned for every processor
    return struct.pack("<Q", len(text)) + text


def _digests(tensors: Sequence[Stored]) -> Generator[str]:
    """SHA-256 of each `PIECE` of all tensors' bytes in their order."""
    hasher, room = hashlib.sha256(), PIECE
    for one in tensors:
        left = one.data
        while left:
            hasher.update(left[:room])
            taken = min(room, len(left))
            left, room = left[taken:], room - taken
            if not room:
                yield hasher.hexdigest()
                hasher, room = hashlib.sha256(), PIECE
    if room < PIECE:
        yield hasher.hexdigest()
