"""The command `daulat` as a person runs it: a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "daulat")
SECONDS = 90
MODEL = "SmolLM2-135M-Instruct"


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the process sees: that home, English, nothing of ours, no device but the processor."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAULAT_", "LC_", "LANG"))}
    own = {"DAULAT_HOME": str(home), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**kept, **own, **(more or {})}


def daulat(
    home: Path, *arguments: str, text: str = "", more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; `text` is its standard input."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        env=environment(home, more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Up:
    """A running `daulat up`: what it said before it was ready for requests."""

    process: subprocess.Popen[str]
    url: str
    said: str
    errors: Path

    @property
    def keys(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("daulat-")]


@contextmanager
def up(home: Path, *arguments: str, more: Mapping[str, str] | None = None) -> Iterator[Up]:
    """`daulat up` on a free port, ended by SIGTERM."""
    errors = home.parent / "errors.txt"
    with errors.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*COMMAND, "up", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(home, {"PYTHONUNBUFFERED": "1", **(more or {})}),
        )
    try:
        said = _until_the_last_line(process)
        url = re.search(r"http://\S+", said)
        assert url is not None, errors.read_text(encoding="utf-8")
        yield Up(process, url[0], said, errors)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


def _until_the_last_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    return said
