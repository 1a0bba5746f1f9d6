"""Random bytes for ids and salts, drawn from the system a page at a time.

Each call of the system's generator lets other threads of the process run, and then waits for its turn again:
under load that costs far more than the bytes. Not here: keys that clients hold, which are drawn one by one
(`record.keys`).
"""

from __future__ import annotations

import os
import threading

PAGE = 4096


class _Pool:
    """Bytes that nobody has had yet; a child process starts with none."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        with self._lock:
            if self._at + count > len(self._bytes):
                self._bytes, self._at = os.urandom(PAGE), 0
            taken = self._bytes[self._at : self._at + count]
            self._at += count
            return taken


_POOL = _Pool()


def random_bytes(count: int) -> bytes:
    """So many bytes (at most a page) from the system's generator, each given once."""
    return _POOL.take(count)
