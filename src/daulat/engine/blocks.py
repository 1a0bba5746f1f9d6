"""Which block of the cache is free, whose it is, and what it holds: bookkeeping without memory or threads.

A block that is full has a key: the SHA-256 of its tokens and of the key before it, down to a root that names
tenant, and whatever else the numbers depend on. Who brings the same tokens under the same root finds the block
by its key, and computes nothing. A key that is found is not believed: the tokens themselves are compared.

Blocks that nobody uses but that have a key are kept, up to a bound, until memory is needed: the longest
unused goes first, and of one sequence the last block first, since without those before it it is of no use.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from daulat.engine.cache import BLOCK_TOKENS


def root(*parts: str) -> bytes:
    """The key before the first block, for a tenant and what else must not be mixed up."""
    hasher = hashlib.sha256(b"daulat prefix 1")
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.digest()


@dataclass(frozen=True, slots=True)
class Content:
    """What a full block holds: its tokens, behind the blocks that the key `before` stands for."""

    key: bytes
    before: bytes
    tokens: bytes


def contents(before: bytes, tokens: Sequence[int]) -> list[Content]:
    """The contents of the full blocks that the tokens make."""
    found: list[Content] = []
    for first in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        data = np.asarray(tokens[first : first + BLOCK_TOKENS], dtype="<i8").tobytes()
        key = hashlib.sha256(before + data).digest()
        found.append(Content(key, before, data))
        before = key
    return found


class Blocks:
    """Args:
    count: how many blocks there are.
    kept: how many that nobody uses are kept for their content, at most.
    """

    def __init__(self, count: int, kept: int) -> None:
        self.count = count
        self._kept = kept
        self._fresh = 0  # blocks from here on were never used
        self._returned: list[
            int
        ] = []  # a heap: low numbers first, so that little memory is touched
        self._users: dict[int, int] = {}
        self._contents: dict[int, Content] = {}
        self._by_key: dict[bytes, int] = {}
        self._idle: dict[int, None] = {}  # with content and without users, the longest unused first

    @property
    def available(self) -> int:
        """How many `take` can give."""
        return self.count - self._fresh + len(self._returned) + len(self._idle)

    @property
    def idle(self) -> int:
        """Kept for their content."""
        return len(self._idle)

    def find(self, wanted: Sequence[Content]) -> list[int]:
        """The blocks that hold the contents, from the first on, as far as there are any."""
        found: list[int] = []
        for content in wanted:
            number = self._by_key.get(content.key)
            if number is None or self._contents[number] != content:
                break
            found.append(number)
        return found

    def is_used(self, number: int) -> bool:
        return number in self._users

    def hold(self, number: int) -> None:
        """One more user of a block that was found."""
        self._idle.pop(number, None)
        self._users[number] = self._users.get(number, 0) + 1

    def take(self) -> int:
        """A block for one user, whatever it held.

        Raises:
            IndexError: none is available.
        """
        if self._returned:
            number = heapq.heappop(self._returned)
        elif self._fresh < self.count:
            number = self._fresh
            self._fresh += 1
        elif self._idle:
            number = next(iter(self._idle))
            self._forget(number)
        else:
            raise IndexError("no block of the cache is available")
        self._users[number] = 1
        return number

    def keep(self, number: int, content: Content) -> None:
        """The block is full and will not change: others may find it. The first with a content stays it."""
        if content.key not in self._by_key and number not in self._contents:
            self._by_key[content.key] = number
            self._contents[number] = content

    def release(self, numbers: Iterable[int]) -> None:
        """One user less, of a sequence's blocks in their order."""
        for number in reversed(list(numbers)):
            self._users[number] -= 1
            if self._users[number]:
                continue
            del self._users[number]
            if number in self._contents:
                self._idle[number] = None
            else:
                heapq.heappush(self._returned, number)
        while len(self._idle) > self._kept:
            number = next(iter(self._idle))
            self._forget(number)
            heapq.heappush(self._returned, number)

    def _forget(self, number: int) -> None:
        del self._idle[number]
        del self._by_key[self._contents.pop(number).key]
