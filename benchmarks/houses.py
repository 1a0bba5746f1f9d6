"""Server processes on one home, without a model of their own: what benchmarks/money.py and its tests ask.

The house and the server are those of `daulat up`; only the starter model is not fetched and loaded.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from daulat.record import Record
from daulat.record.keys import Keys
from daulat.settings import load
from daulat.values.plan import NO_LIMITS, Limits

UPSTREAM_KEY = "scripted-benchmark-0123456789-0123456789"
_CHILD = """
import sys
from pathlib import Path
from daulat.house import open_house
from daulat.server import logs
from daulat.server.run import serve
from daulat.settings import load

settings = load(Path(sys.argv[1]))
logs.configure("error", "text")
serve(lambda: open_house(settings), settings, on_ready=lambda url: print(url, flush=True))
"""


def emptied(url: str) -> str:
    """The PostgreSQL database at that URL, with no table of anybody's."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return url


class Unready(Exception):
    """A server ended before it answered."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    process: subprocess.Popen[str]


def settings(home: Path, text: str, record: str = "") -> None:
    """Write a home's settings.

    Args:
        record: SQLAlchemy URL; empty: SQLite in the home.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    kept = f'[record]\nurl = "{record}"\n' if record else ""
    whole = f'[server]\nport = 0\n{kept}{text}\n[policy.classes.internal]\nplaces = ["*"]\n'
    (home / "daulat.toml").write_text(whole, encoding="utf-8")


@contextlib.contextmanager
def opened(home: Path) -> Iterator[Record]:
    """The record of a home."""
    with contextlib.closing(Record.open(load(home).record_place)) as record:
        yield record


def key(home: Path, limits: Limits = NO_LIMITS, name: str = "load") -> str:
    """A new key's secret."""
    with opened(home) as record:
        return Keys(record).create(name, limits=limits)[1]


def start(home: Path) -> Server:
    """Raises Unready: it ended before it answered."""
    inherited: Mapping[str, str] = os.environ
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SCRIPTED_KEY": UPSTREAM_KEY,
        },
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        process.wait()
        raise Unready(f"it ended with {process.returncode}")
    return Server(url, process)


def stop(server: Server) -> None:
    """Ask it to end, and wait for that."""
    server.process.terminate()
    try:
        server.process.wait(60)
    finally:
        server.process.kill()
        server.process.wait()
        if server.process.stdout is not None:
            server.process.stdout.close()


def kill(server: Server) -> None:
    """Give it no time for anything."""
    server.process.kill()
    server.process.wait()


@contextlib.contextmanager
def running(home: Path, count: int = 1) -> Iterator[list[Server]]:
    """So many servers on one home; they are stopped with the block."""
    with contextlib.ExitStack() as stack:
        started: list[Server] = []
        for _ in range(count):
            started.append(start(home))
            stack.callback(stop, started[-1])
        yield started
