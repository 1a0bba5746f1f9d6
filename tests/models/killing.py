"""A process that is killed in the middle of its work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path


def killed_at_work(code: str, home: Path, source: Path, milliseconds: int) -> None:
    """Run code that says a line when it is ready, tell it to begin, and kill it so long after that."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdin.write(b"\n")
    process.stdin.flush()
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
