"""What the engine's benchmarks share: the starter model, the tokens, and processes that report in JSON."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from start import MODEL, ROOT

from daulat.models.catalogue import Catalogue

RESULTS = ROOT / "benchmarks" / "results"
SHORT, LONG, NEW, COMPANY = 64, 1000, 64, 16
READ = 1024
PATIENCE = 3600
"""Seconds for one engine's round, in which it may also convert weights."""


class EngineFailed(Exception):
    """An engine's process ended badly; the text is the end of what it said."""


def tokens(count: int, seed: int) -> list[int]:
    """The same for every engine: ordinary tokens in no order."""
    return random.Random(seed).choices(range(1000, 40_000), k=count)  # noqa: S311 - a workload


def cache_folder() -> Path:
    """Where models are kept between runs."""
    default = Path.home() / ".cache" / "daulat-test-models"
    return Path(os.environ.get("DAULAT_TEST_CACHE", default))


def checkpoint() -> Any:
    """The starter model as it is stored."""
    entry = Catalogue(cache_folder()).get(MODEL)
    assert entry is not None
    return entry.open()


def said(command: Sequence[str], text: str = "", **environment: str) -> Any:
    """The JSON on the last line of what a process prints.

    Raises:
        EngineFailed: it ended badly, or said nothing, or did not end.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", **environment},
            input=text,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"no answer in {PATIENCE} s") from None
    try:
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        pass
    last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-12:]
    raise EngineFailed(f"exit status {done.returncode}: " + "\n".join(last))
