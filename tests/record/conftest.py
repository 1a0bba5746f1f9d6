"""A PostgreSQL of its own for the tests, where the machine has one installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import houses


def _programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps it off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """SQLAlchemy URL of an empty server, which listens on a socket only."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # PostgreSQL will not run as root; Debian's package brings a user for it.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket path is short

    def call(*command: str) -> None:
        done = subprocess.run(
            [*as_user, *command], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, done.stderr.decode()

    try:
        if as_user:
            shutil.chown(folder, "postgres")
        data = str(folder / "data")
        call(str(programs / "initdb"), "-D", data, "-U", "daulat", "-A", "trust", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        call(
            *(str(programs / "pg_ctl"), "-D", data, "-l", f"{folder}/log"),
            *("-o", options, "-w", "start"),
        )
        yield f"postgresql+psycopg://daulat@/postgres?host={folder}"
        call(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(postgres: str) -> str:
    """The same, with no table of an earlier test."""
    return houses.emptied(postgres)
