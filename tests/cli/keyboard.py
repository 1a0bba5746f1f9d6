"""A terminal with somebody at it: types, and waits for what appears."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class Keyboard:
    """A terminal with a person at it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self.process = process
        self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, pattern: str, seconds: float = 120.0) -> str:
        """What appears up to the end of the first match; what follows waits for the next call."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self._unread)):
            assert time.monotonic() < deadline, self._unread
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self._unread += os.read(self._descriptor, 4096).decode(errors="replace")
        seen, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return seen


@contextmanager
def keyboard(
    command: Sequence[str], environment: Mapping[str, str], prompt: str = ">>> "
) -> Iterator[Keyboard]:
    """A conversation in a terminal of its own, which waits at its first prompt."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        person = Keyboard(ours, process)
        person.until(prompt)
        yield person
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        os.close(ours)
