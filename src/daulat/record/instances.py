"""Which processes are at work on a home: a locked file each, which the system unlocks when one dies.

An exchange that is open belongs either to a process that is still answering it or to one that is gone;
only the latter may be closed as interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from pathlib import Path
from types import TracebackType

_NAME = re.compile(r"instance-[0-9a-f]{16}")


class Instance:
    """This process's own lock, held while the context is open.

    Attributes:
        id: the name that this process's exchanges carry.
    """

    def __init__(self, home: Path) -> None:
        self.id = f"instance-{secrets.token_hex(8)}"
        self._folder = home / "instances"
        self._descriptor: int | None = None

    def __enter__(self) -> Instance:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        self._descriptor = self._create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            (self._folder / self.id).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def is_alive(self, instance: str) -> bool:
        """Whether the process of that name still runs (on this machine)."""
        if instance == self.id:
            return True
        if not _NAME.fullmatch(instance):
            return False
        try:
            descriptor = os.open(self._folder / instance, os.O_RDWR)
        except FileNotFoundError:
            return False
        with contextlib.closing(os.fdopen(descriptor)):
            return not _try_lock(descriptor)

    def _create(self) -> int:
        path = self._folder / self.id
        while True:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                return descriptor
            # Another process swept the file away between its creation and our lock.
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove the files of processes that were killed."""
        for path in self._folder.iterdir():
            if _NAME.fullmatch(path.name) and not self.is_alive(path.name):
                path.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
