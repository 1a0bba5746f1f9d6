"""Files by what is in them: one blob for the same bytes, however many models name them.

    models/blobs/sha256/ab/<64 hex digits>     read-only
    models/manifests/<name>.json               which files make a model
    models/adapters/<base>/<name>.json         which files make an adapter
    models/partial/…                           downloads that go on after an interruption

A blob comes into being by renaming a complete, flushed file, and a manifest likewise, so a process that
is killed leaves either the old or the new state. A mutation holds the store's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Generator
from pathlib import Path

from daulat.errors import PullError

Advance = Callable[[int], None]
_CHUNK = 1 << 20
_STALE_SECONDS = 24 * 3600


class Store:
    """The folder `models` of a home."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._folder = folder
        self.manifests = folder / "manifests"
        self.adapters = folder / "adapters"
        self.partial = folder / "partial"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            PullError: they cannot be created.
        """
        try:
            for folder in (self._blobs, self.manifests, self.adapters, self.partial):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PullError(
                f"The folder {self._folder} cannot be written ({error.strerror}). "
                "Free the place, or name another home with --home."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold off other mutations, in this process and in others."""
        self.prepare()
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def path(self, digest: str) -> Path:
        """Where a blob lies (`sha256:…`)."""
        hexadecimal = digest.removeprefix("sha256:")
        return self._blobs / hexadecimal[:2] / hexadecimal

    def add(self, source: Path, advance: Advance = lambda _: None) -> tuple[str, int]:
        """Copy a file in; its digest and size.

        Args:
            advance: told the number of bytes copied, each time.

        Raises:
            PullError: no space, or the file cannot be read.
        """
        temporary = self._folder / f"incoming-{secrets.token_hex(8)}"
        try:
            digest, size = _copy(source, temporary, advance)
            self._place(temporary, digest)
        except OSError as error:
            raise PullError(f"{source.name} cannot be stored: {error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)
        return digest, size

    def write(self, path: Path, data: bytes) -> None:
        """Write a small file (a manifest) so that it is there whole or not at all."""
        temporary = self._folder / f"incoming-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def sweep(self, used: Collection[str]) -> int:
        """Remove blobs that nobody names, and what killed processes left; bytes freed."""
        freed = 0
        for blob in self._blobs.glob("??/*"):
            if f"sha256:{blob.name}" not in used:
                freed += blob.stat().st_size
                blob.unlink()
        for left in self._folder.glob("incoming-*"):
            if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                left.unlink(missing_ok=True)
        return freed

    def free(self) -> int:
        """Bytes free on the disk."""
        return shutil.disk_usage(self._folder).free

    def _place(self, temporary: Path, digest: str) -> None:
        target = self.path(digest)
        if target.exists():
            return
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.chmod(0o444)
        temporary.rename(target)
        _flush_folder(target.parent)


def hash_file(path: Path, advance: Advance = lambda _: None) -> str:
    """A file's `sha256:…`."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            advance(len(chunk))
    return f"sha256:{hasher.hexdigest()}"


def _copy(source: Path, target: Path, advance: Advance) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            hasher.update(chunk)
            writer.write(chunk)
            size += len(chunk)
            advance(len(chunk))
        writer.flush()
        os.fsync(writer.fileno())
    return f"sha256:{hasher.hexdigest()}", size


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
